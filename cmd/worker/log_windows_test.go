package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

// A log that is full begins anew, beside the one before it, unless somebody reads it.
func TestLogRotates(t *testing.T) {
	stderr := os.Stderr
	path := filepath.Join(t.TempDir(), "worker.log")
	l, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		os.Stderr = stderr
		if err := windows.SetStdHandle(windows.STD_ERROR_HANDLE, windows.Handle(stderr.Fd())); err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	l.max = 100
	line := func(n int) string { return fmt.Sprintf("line %d %s\n", n, strings.Repeat(".", 40)) }
	write := func(n int) {
		t.Helper()
		if _, err := l.Write([]byte(line(n))); err != nil {
			t.Fatal(err)
		}
	}
	has := func(path, want string) {
		t.Helper()
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s has %q, %v; want %q", filepath.Base(path), got, err, want)
		}
	}
	write(1)
	write(2)
	write(3)
	fmt.Fprint(os.Stderr, "panic\n") // as Go says it
	has(path, line(3)+"panic\n")
	has(path+".old", line(1)+line(2))
	reader, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	write(4)
	write(5)
	has(path, line(3)+"panic\n"+line(4)+line(5))
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	write(6)
	has(path, line(6))
	has(path+".old", line(3)+"panic\n"+line(4)+line(5))
	// A log that could not be opened loses that line alone.
	l.path = filepath.Join(path, "none")
	if _, err := l.Write([]byte(line(7) + line(7))); err == nil {
		t.Error("written to a file in a file")
	}
	l.path = path
	write(8)
	has(path, line(8))
	has(path+".old", line(6))
}
