package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/progress/progressui"
	"golang.org/x/sync/errgroup"

	"github.com/lithify/lithify/jobs"
)

// buildDisplay draws what BuildKit says of its steps.
type buildDisplay struct {
	ch   chan *client.SolveStatus
	done chan struct{}
	once sync.Once
}

func showBuild(ctx context.Context, w io.Writer, mode string) (*buildDisplay, error) {
	display, err := displayOn(w, mode)
	if err != nil {
		return nil, err
	}
	d := &buildDisplay{ch: make(chan *client.SolveStatus), done: make(chan struct{})}
	go func() {
		defer close(d.done)
		display.UpdateFrom(context.WithoutCancel(ctx), d.ch) // reads until end: how a step was cancelled is shown, too
	}()
	return d, nil
}

func displayOn(w io.Writer, mode string) (progressui.Display, error) {
	display, err := progressui.NewDisplay(w, progressui.DisplayMode(mode))
	if err != nil {
		return display, usageError{fmt.Errorf("--progress %s: %w", mode, err)}
	}
	return display, nil
}

func (d *buildDisplay) status(s *client.SolveStatus) { d.ch <- s }

// end waits until the last state is drawn.
func (d *buildDisplay) end() {
	d.once.Do(func() { close(d.ch) })
	<-d.done
}

// buildFollower shows a build of a pool: its steps as they are drawn here, and what else
// happens to the job while none are.
type buildFollower struct {
	out  io.Writer
	mode string

	mu      sync.Mutex
	display *buildDisplay // while there are steps
	held    []string      // what happened meanwhile
}

func (f *buildFollower) show(ctx context.Context, p pool, id jobs.ID) error {
	eg, ctx := errgroup.WithContext(ctx)
	eg.Go(func() error { return f.events(ctx, p, id) })
	eg.Go(func() error { return f.log(ctx, p, id, 0) })
	return eg.Wait()
}

func (f *buildFollower) events(ctx context.Context, p pool, id jobs.ID) error {
	for e, err := range p.Watch(ctx, id, 0) {
		if err != nil {
			return err
		}
		if f.mode != "quiet" && f.mode != "rawjson" {
			f.line(eventLine(e))
		}
	}
	return nil
}

func (f *buildFollower) line(s string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.display != nil {
		f.held = append(f.held, s)
		return
	}
	fmt.Fprintln(f.out, s)
}

// log draws what a build job printed: a line of JSON for each client.SolveStatus, and an
// empty one behind the last of an attempt.
func (f *buildFollower) log(ctx context.Context, p pool, id jobs.ID, after uint64) error {
	defer f.end()
	attempt, rest := 0, []byte(nil)
	for part, err := range p.ReadLog(ctx, id, after) {
		if err != nil {
			return err
		}
		if part.Attempt != attempt { // the one before may have been cut off
			f.end()
			attempt, rest = part.Attempt, nil
		}
		rest = append(rest, part.Data...)
		for {
			line, more, ok := bytes.Cut(rest, []byte("\n"))
			if !ok {
				break
			}
			rest = more
			if err := f.status(ctx, line); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *buildFollower) status(ctx context.Context, line []byte) error {
	var s client.SolveStatus
	if json.Unmarshal(line, &s) != nil {
		return nil // its beginning was dropped
	}
	if len(s.Vertexes)+len(s.Statuses)+len(s.Logs)+len(s.Warnings) == 0 {
		f.end()
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.display == nil {
		var err error
		if f.display, err = showBuild(ctx, f.out, f.mode); err != nil {
			return err
		}
	}
	f.display.status(&s)
	return nil
}

func (f *buildFollower) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.display != nil {
		f.display.end()
		f.display = nil
	}
	for _, s := range f.held {
		fmt.Fprintln(f.out, s)
	}
	f.held = nil
}
