package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

// What a job prints is there for who reads along and for who comes later, of each
// attempt and in order, however long a piece is.
func TestLog(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{})
	long := strings.Repeat("0123456789abcdef", 20_000) // more than a message takes
	id := p.submit(testArgs{}, jobs.Options{MaxAttempts: 2}).ID
	read := make(chan []queue.LogPart, 1)
	go func() { read <- p.readLog(id, 0) }() // live, before anything happens
	p.worker(handle(func(ctx context.Context, _ testArgs) (any, error) {
		piece := []byte("first\n")
		jobs.Log(ctx, piece)
		copy(piece, "xxxxx") // it was copied
		jobs.Log(ctx, []byte(long+"\n"))
		for i := range 100 {
			jobs.Log(ctx, fmt.Appendf(nil, "line %d\n", i))
		}
		return nil, jobs.RetryAfter(1, errors.New("again"))
	}), worker.Config{Name: "w1"})

	once := "first\n" + long + "\n"
	for i := range 100 {
		once += fmt.Sprintf("line %d\n", i)
	}
	live := await(t, read, "end of the log")
	if diff := cmp.Diff(texts(live), map[int]string{1: once, 2: once}); diff != "" {
		t.Errorf("live -got +want:\n%s", diff)
	}
	same := func(a, b queue.LogPart) bool {
		return a.Seq == b.Seq && a.Time.Equal(b.Time) && a.Attempt == b.Attempt && bytes.Equal(a.Data, b.Data)
	}
	if got := p.readLog(id, 0); !slices.EqualFunc(got, live, same) {
		t.Errorf("afterwards %d parts, live %d", len(got), len(live))
	}
	if got := p.readLog(id, live[2].Seq); !slices.EqualFunc(got, live[3:], same) {
		t.Errorf("resumed with %d parts, want %d", len(got), len(live)-3)
	}
	if got := p.readLog(id, live[len(live)-1].Seq); len(got) != 0 {
		t.Errorf("behind the end: %d parts", len(got))
	}
	for _, err := range p.ReadLog(t.Context(), "test-unknown", 0) {
		if !errdefs.IsNotFound(err) {
			t.Errorf("unknown job: %v", err)
		}
	}
}

func (p *pool) readLog(id jobs.ID, after uint64) (parts []queue.LogPart) {
	for part, err := range p.ReadLog(p.t.Context(), id, after) {
		if err != nil {
			p.t.Error(err)
		}
		parts = append(parts, part)
	}
	return parts
}

// texts joins the parts of each attempt.
func texts(parts []queue.LogPart) map[int]string {
	by := map[int]*bytes.Buffer{}
	for _, p := range parts {
		if by[p.Attempt] == nil {
			by[p.Attempt] = &bytes.Buffer{}
		}
		by[p.Attempt].Write(p.Data)
	}
	out := map[int]string{}
	for n, b := range by {
		out[n] = b.String()
	}
	return out
}
