package logtail_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lithify/lithify/restore/logtail"
)

func TestOf(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	if got := logtail.Of("CRIU", file); got != "" {
		t.Errorf("without a log: %q", got)
	}
	// A container's log is a stranger's: no terminal is to do what it says.
	if err := os.WriteFile(file, []byte(strings.Repeat("x", 1<<20)+"\nErr\tor \x1b[2J\xff\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := logtail.Of("CRIU", file)
	if len(got) > 5<<10 || !strings.HasPrefix(got, "; the end of CRIU's log:\nxxx") || !strings.HasSuffix(got, "\nErr\tor ?[2J\ufffd\n") {
		t.Errorf("got %d bytes, the end %q", len(got), got[max(0, len(got)-20):])
	}
}
