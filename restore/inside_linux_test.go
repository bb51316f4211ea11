package restore

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// What a container has where its identity is to be written is not opened: here a pipe that
// nobody reads, and a link.
func TestWriteIn(t *testing.T) {
	dir := t.TempDir()
	precious := filepath.Join(dir, "precious")
	if err := os.WriteFile(precious, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, place := range map[string]func(file string) error{
		"nothing": func(string) error { return nil },
		"pipe":    func(file string) error { return syscall.Mkfifo(file, 0o600) },
		"link":    func(file string) error { return os.Symlink("../precious", file) },
		"file":    func(file string) error { return os.WriteFile(file, []byte("of an earlier restore"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, name, "clone")
			if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := place(file); err != nil {
				t.Fatal(err)
			}
			if err := writeIn(uint32(os.Getpid()), file[1:], "me"); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(file); err != nil || string(got) != "me" {
				t.Errorf("got %q, %v, want me", got, err)
			}
			if names, err := os.ReadDir(filepath.Dir(file)); err != nil || len(names) != 1 {
				t.Errorf("beside it: %v, %v", names, err)
			}
		})
	}
	if got, err := os.ReadFile(precious); err != nil || string(got) != "precious" {
		t.Errorf("what the link leads to: %q, %v", got, err)
	}
}
