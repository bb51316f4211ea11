package convert_test

import (
	"os"
	"testing"

	"github.com/lithify/lithify/convert"
)

// A temporary file does not outlive a process that is killed, which has its handles closed.
func TestTempFile(t *testing.T) {
	dir := t.TempDir()
	for name, end := range map[string]func(*convert.Scratch) error{
		"closed": func(s *convert.Scratch) error { return s.Close() },
		"killed": func(s *convert.Scratch) error { return s.File.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			f, err := convert.TempFile(dir)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString("one two"); err != nil {
				t.Error(err)
			}
			b := make([]byte, 3)
			if _, err := f.ReadAt(b, 4); err != nil || string(b) != "two" {
				t.Errorf("read %q, %v", b, err)
			}
			if err := end(f); err != nil {
				t.Error(err)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}
