//go:build linux

package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/test/chaos/history"
)

// step is a job that does one thing once, if it may.
type step struct {
	Key    string  `json:"key"`
	Millis int     `json:"millis"`
	Dir    string  `json:"dir,omitempty"` // where its effect needs room for a MiB
	Ends   outcome `json:"ends,omitempty"`
}

type outcome string

const (
	fine   outcome = ""
	refuse outcome = "refuse" // a permanent error
	panics outcome = "panic"
	second outcome = "second" // an error in the first attempt that gets so far, and then fine
)

// layer is a step that others share: its ID is made of what it is.
type layer struct {
	Digest string  `json:"digest"`
	Millis int     `json:"millis"`
	Ends   outcome `json:"ends,omitempty"`
}

// image waits for layers, campaign for images.
type image struct {
	Key    string  `json:"key"`
	Layers []layer `json:"layers"`
}

type campaign struct {
	Key    string  `json:"key"`
	Images []image `json:"images"`
}

func (step) Kind() string     { return "step" }
func (layer) Kind() string    { return "layer" }
func (image) Kind() string    { return "image" }
func (campaign) Kind() string { return "campaign" }

func (a step) Validate() error     { return needKey(a.Key) }
func (a layer) Validate() error    { return needKey(a.Digest) }
func (a image) Validate() error    { return needKey(a.Key) }
func (a campaign) Validate() error { return needKey(a.Key) }

func (a layer) Identity() any { return a }

func needKey(k string) error {
	if k == "" {
		return errors.New("no key")
	}
	return nil
}

var validators = scheduler.Validators{"step": jobs.Validator[step](), "layer": jobs.Validator[layer](),
	"image": jobs.Validator[image](), "campaign": jobs.Validator[campaign]()}

// job is the same each time it is made: its ID follows from its key.
func job(a jobs.Args) jobs.Job {
	var o jobs.Options
	switch a := a.(type) {
	case step:
		o.IdempotencyKey = a.Key
	case image:
		o.IdempotencyKey = a.Key
	case campaign:
		o.IdempotencyKey = a.Key
	}
	j, err := jobs.New(a, o)
	if err != nil {
		panic(err) // these tests made it
	}
	return j
}

func (d *diary) mux() *jobs.Mux {
	var m jobs.Mux
	jobs.Handle(&m, func(ctx context.Context, a step) (any, error) { return d.step(ctx, job(a).ID, a) })
	jobs.Handle(&m, func(ctx context.Context, a layer) (any, error) {
		return d.step(ctx, job(a).ID, step{Key: a.Digest, Millis: a.Millis, Ends: a.Ends})
	})
	jobs.Handle(&m, func(ctx context.Context, a image) (any, error) {
		var children []jobs.Job
		for _, l := range a.Layers {
			children = append(children, job(l))
		}
		return d.parent(ctx, job(a).ID, children)
	})
	jobs.Handle(&m, func(ctx context.Context, a campaign) (any, error) {
		var children []jobs.Job
		for _, i := range a.Images {
			children = append(children, job(i))
		}
		return d.parent(ctx, job(a).ID, children)
	})
	return &m
}

// step takes its time in two halves, with the effect between them.
func (d *diary) step(ctx context.Context, id jobs.ID, a step) (any, error) {
	call := d.begin(id)
	err := d.work(ctx, call, a)
	switch {
	case err != nil:
		call.write(history.Erred)
		return nil, err
	case a.Ends == refuse:
		call.write(history.Erred)
		return nil, jobs.Permanent(errors.New("refused as asked"))
	case a.Ends == panics:
		call.write(history.Erred)
		panic("as asked")
	case a.Ends == second && d.first(id):
		call.write(history.Erred)
		return nil, jobs.RetryAfter(50*time.Millisecond, errors.New("the first attempt fails"))
	}
	call.write(history.Ended)
	return call.exec, nil // each call has another result: two would be seen
}

func (d *diary) work(ctx context.Context, call call, a step) error {
	half := time.Duration(a.Millis) * time.Millisecond / 2
	if err := spend(ctx, half); err != nil {
		return err
	}
	call.write(history.Effect)
	if a.Dir != "" {
		if err := fill(a.Dir); err != nil {
			return err
		}
	}
	return spend(ctx, half)
}

func spend(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		jobs.Alive(ctx, 1)
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// fill writes a file of a MiB and removes it.
func fill(dir string) error {
	f, err := os.CreateTemp(dir, "effect-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(make([]byte, 1<<20))
	return errors.Join(err, f.Close())
}

// parent waits for its children and is done when they are.
func (d *diary) parent(ctx context.Context, id jobs.ID, children []jobs.Job) (any, error) {
	call := d.begin(id)
	ended := jobs.Children(ctx)
	for _, j := range children {
		c, ok := ended[j.ID]
		switch {
		case !ok || !c.Record.State.Ended():
			call.write(history.Awaited)
			return nil, jobs.Await(children...)
		case c.Record.State != jobs.Done:
			call.write(history.Erred)
			return nil, jobs.Permanent(fmt.Errorf("%s%w", history.ChildFailed, c.Record.Err()))
		}
	}
	call.write(history.Effect)
	call.write(history.Ended)
	return call.exec, nil
}

// layers are n of a pool that all images of an era draw from.
func layers(r *rand.Rand, era, n int) []layer {
	var ls []layer
	for range n {
		k := r.IntN(32)
		ls = append(ls, layer{Digest: fmt.Sprintf("%d-%d", era, k), Millis: 10 + 14*k})
	}
	return ls
}
