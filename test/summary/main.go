// Command summary reads `go test -json` from its input and says what matters:
// what failed with its output, what was skipped with its reason, the slowest
// packages, and in the last line how many tests passed, failed and were skipped.
// It exits 1 if anything failed, or if no test ran.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

func main() {
	s, err := read(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "summary:", err)
		os.Exit(1)
	}
	s.print(os.Stdout)
	if len(s.failed) > 0 || s.passed == 0 {
		os.Exit(1)
	}
}

// event is a line of `go test -json`, see `go doc test2json`.
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build-output and build-fail
	Test        string
	Elapsed     float64
	Output      string
	FailedBuild string
}

// read consumes the events. A line that is no event is what a tool said: it goes
// to rest.
func read(r io.Reader, rest io.Writer) (*summary, error) {
	s := newSummary()
	for lines := bufio.NewReader(r); ; {
		line, err := lines.ReadBytes('\n')
		var e event
		switch {
		case len(line) == 0:
		case line[0] == '{' && json.Unmarshal(line, &e) == nil && e.Action != "":
			s.add(e)
		default:
			if _, err := rest.Write(line); err != nil {
				return nil, err
			}
		}
		if errors.Is(err, io.EOF) {
			return s, nil
		} else if err != nil {
			return nil, err
		}
	}
}
