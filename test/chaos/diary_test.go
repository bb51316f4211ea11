//go:build linux

package chaos_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/test/chaos/history"
)

// diary is a file that the handlers of all workers append to.
type diary struct {
	file   *os.File
	worker string
	calls  atomic.Int64
}

func openDiary(r role) (*diary, error) {
	f, err := os.OpenFile(r.Diary, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &diary{file: f, worker: r.Name}, nil
}

// call is one call of a handler.
type call struct {
	d    *diary
	exec string
	id   jobs.ID
}

func (d *diary) begin(id jobs.ID) call {
	c := call{d, fmt.Sprintf("%s-%d", d.worker, d.calls.Add(1)), id}
	c.write(history.Began)
	return c
}

// write is durable when it returns: a handler that is killed right after has
// written it. A diary that cannot be written to ends the run.
func (c call) write(e history.Event) {
	b, err := json.Marshal(history.Line{At: time.Now(), Event: e, Exec: c.exec, ID: string(c.id), Worker: c.d.worker})
	if err == nil {
		_, err = c.d.file.Write(append(b, '\n'))
	}
	if err == nil {
		err = c.d.file.Sync()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "panic: diary:", err)
		os.Exit(3)
	}
}

// first reports whether no call of any worker has asked this of a job before.
func (d *diary) first(id jobs.ID) bool {
	f, err := os.OpenFile(d.file.Name()+"."+string(id), os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		f.Close()
	}
	return err == nil
}

func readDiary(path string) (lines []history.Line, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		var l history.Line
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("diary: %q: %w", s.Text(), err)
		}
		lines = append(lines, l)
	}
	return lines, s.Err()
}
