package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Await is what a handler returns when its job has to wait for others. The worker
// submits those that do not exist or ended without a result, and is free for other
// work. Once all of them have ended, the handler is called again, on any worker,
// and [Children] tells how they ended. Waiting costs no attempt; a job may wait
// [MaxWaits] times.
//
// The handler starts from the beginning each time: what it did before it has to
// find again, by what it made or by its children's results. Await(nothing) is an
// error like any other.
func Await(children ...Job) error { return &awaiting{children: children} }

// AwaitWith is Await of a job that is told next time of some of its [Children] again, too.
// These have ended, and are not opened again, however they did. They count for
// [MaxChildren].
func AwaitWith(known []ID, children ...Job) error { return &awaiting{children, known} }

type awaiting struct {
	children []Job
	known    []ID
}

func (a *awaiting) Error() string { return fmt.Sprintf("waiting for %d jobs", len(a.children)) }

// Awaited are the jobs that err, as [Await] made it, waits for.
func Awaited(err error) ([]Job, bool) {
	a, ok := errors.AsType[*awaiting](err)
	if !ok || len(a.children) == 0 {
		return nil, false
	}
	return a.children, true
}

// Known are the jobs that err, as [AwaitWith] made it, wants to know of again.
func Known(err error) []ID {
	if a, ok := errors.AsType[*awaiting](err); ok {
		return a.known
	}
	return nil
}

// Child is a job that its parent waited for, as it was when the parent went on.
type Child struct {
	Job    Job
	Record Record
}

// Decode reads the result of a child that is done into v; of one that is not it is
// an error, that which the child ended with if it has ended.
func (c Child) Decode(v any) error {
	if err := c.Record.Err(); err != nil {
		return err
	}
	return json.Unmarshal(c.Record.Result, v)
}

type childrenKey struct{}

// WithChildren makes [Children] find them under the returned context.
func WithChildren(ctx context.Context, children map[ID]Child) context.Context {
	return context.WithValue(ctx, childrenKey{}, children)
}

// Children are the jobs that this one waited for before this attempt: none in the
// first, or outside a pool. Nobody may change the map.
func Children(ctx context.Context) map[ID]Child {
	m, _ := ctx.Value(childrenKey{}).(map[ID]Child)
	return m
}

// MaxChildren bounds how many jobs one may wait for at once: their IDs are in its
// record. (If those are very long, it is fewer.) For more, wait for jobs that wait.
const MaxChildren = 2000

// MaxWaits bounds how often one job may [Await]: one that does so for ever is
// broken, or its children are.
const MaxWaits = 16

// Wait ends a running attempt that goes on when its children have ended.
type Wait struct {
	Claim    uint64
	Children []ID
	At       time.Time
}

func (e Wait) next(r Record) (Record, bool) {
	ok := r.State == Running && len(e.Children) > 0
	r.Claim = e.Claim
	if r.Waits >= MaxWaits {
		r.State, r.Failure = Dead, &Failure{ClassPoison, KindInternal, fmt.Sprintf("it waited %d times for other jobs", r.Waits)}
		return r, ok
	}
	r.State, r.Children, r.Failure = Waiting, e.Children, nil
	r.Waits++
	r.Attempt--
	return r, ok
}

// Resume queues a job whose children have all ended.
type Resume struct{ At time.Time }

func (e Resume) next(r Record) (Record, bool) {
	ok := r.State == Waiting
	r.State = Queued
	return r, ok
}

func (e Wait) at() time.Time   { return e.At }
func (e Resume) at() time.Time { return e.At }
