package queue_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

// forest has jobs that fan out over three floors: a root "root FROM TO" waits for parts
// of ten images, "part FROM TO", each for its images, "image N", and each of these for
// its layers, which it shares with its neighbours.
type forest struct {
	run func(ctx context.Context, layer int) error

	mu    sync.Mutex
	began map[int]int // how often each layer did
}

const (
	imagesOfPart  = 10
	layersOfImage = 4
	ownLayers     = 2 // the others are the next image's
)

func (f *forest) mux(t *testing.T) *jobs.Mux {
	f.began = map[int]int{}
	m := handle(func(ctx context.Context, a testArgs) (any, error) { return sum(ctx, branches(t, a.Name)) })
	jobs.Handle(m, func(ctx context.Context, a pureArgs) (any, error) {
		n, err := strconv.Atoi(a.Digest)
		if err != nil {
			return nil, jobs.Permanent(err)
		}
		f.mu.Lock()
		f.began[n]++
		f.mu.Unlock()
		return 1, f.run(ctx, n)
	})
	return m
}

func (f *forest) runs() map[int]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[int]int{}
	for n, k := range f.began {
		out[n] = k
	}
	return out
}

func branches(t *testing.T, name string) (args []jobs.Args) {
	var from, to, n int
	switch {
	case scan(name, "root %d %d", &from, &to):
		for ; from < to; from += imagesOfPart {
			args = append(args, testArgs{fmt.Sprintf("part %d %d", from, min(from+imagesOfPart, to))})
		}
	case scan(name, "part %d %d", &from, &to):
		for ; from < to; from++ {
			args = append(args, testArgs{fmt.Sprintf("image %d", from)})
		}
	case scan(name, "image %d", &n):
		for k := range layersOfImage {
			args = append(args, pureArgs{strconv.Itoa(n*ownLayers + k)})
		}
	default:
		t.Errorf("no branch is called %q", name)
	}
	return args
}

func scan(s, format string, into ...any) bool {
	n, err := fmt.Sscanf(s, format, into...)
	return err == nil && n == len(into)
}

// sum waits for jobs and adds up their results.
func sum(ctx context.Context, args []jobs.Args) (any, error) {
	children := jobs.Children(ctx)
	if len(children) == 0 {
		var js []jobs.Job
		for _, a := range args {
			j, err := jobs.New(a, jobs.Options{})
			if err != nil {
				return nil, jobs.Permanent(err)
			}
			js = append(js, j)
		}
		return nil, jobs.Await(js...)
	}
	total := 0
	for _, c := range children {
		var n int
		if err := c.Decode(&n); err != nil {
			return nil, jobs.Permanent(err)
		}
		total += n
	}
	return total, nil
}

// ofState lists the jobs of a state whose name begins so; of pure ones it is their digest.
func (p *pool) ofState(state jobs.State, begins string) (ids []jobs.ID) {
	p.t.Helper()
	for _, st := range p.jobs() {
		var a struct{ Name, Digest string }
		if err := json.Unmarshal(st.Job.Args, &a); err != nil {
			p.t.Fatal(err)
		}
		if st.State == state && strings.HasPrefix(a.Name+a.Digest, begins) {
			ids = append(ids, st.ID)
		}
	}
	return ids
}

// TestFanOut: over three floors, and over the end of a scheduler and of a worker in the
// middle, each layer runs once, and every job that waits ends with what its children gave.
func TestFanOut(t *testing.T) {
	const images = 30
	p := newPool(t)
	stopScheduler := p.scheduler(scheduler.Config{Sweep: calm})
	half, gate := make(chan struct{}), make(chan struct{})
	var once sync.Once
	f := &forest{}
	f.run = func(context.Context, int) error {
		if len(f.runs()) == images {
			once.Do(func() { close(half) })
			<-gate
		}
		return nil
	}
	m := f.mux(t)
	stopWorker := p.worker(m, worker.Config{Name: "first", Slots: 4})
	root := p.submit(testArgs{fmt.Sprintf("root 0 %d", images)}, jobs.Options{MaxAttempts: 1})
	await(t, half, "half of the layers")
	stopScheduler()
	close(gate)
	p.scheduler(scheduler.Config{Sweep: calm})
	stopWorker() // which lets what runs end
	p.worker(m, worker.Config{Name: "second", Slots: 4})
	if got := result[int](t, p.waitState(root.ID, jobs.Done)); got != images*layersOfImage {
		t.Errorf("the root's result is %d, want %d", got, images*layersOfImage)
	}
	runs := f.runs()
	if want := images*ownLayers + layersOfImage - ownLayers; len(runs) != want {
		t.Errorf("%d layers ran, want %d", len(runs), want)
	}
	for n, k := range runs {
		if k != 1 {
			t.Errorf("layer %d ran %d times", n, k)
		}
	}
}

// TestCancelFanOut: of a root that is cancelled all ends that nobody else waits for, and
// what another root needs goes on.
func TestCancelFanOut(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{Sweep: calm})
	gate := make(chan struct{})
	f := &forest{run: func(ctx context.Context, _ int) error {
		defer jobs.Quiet(ctx, patience, "waiting for the test")()
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	classes := func(kinds ...string) worker.Config { return worker.Config{Classes: worker.Classes(kinds), Slots: 2} }
	m := f.mux(t)
	p.worker(m, classes("test"))
	p.worker(m, classes("pure"))
	doomed := p.submit(testArgs{"root 0 20"}, jobs.Options{MaxAttempts: 1}) // layers 0 to 41
	needed := p.submit(testArgs{"root 10 30"}, jobs.Options{})              // layers 20 to 61
	p.until("all images wait", func() bool { return len(p.ofState(jobs.Waiting, "image")) == 40 })
	p.cancel(doomed.ID)
	p.until("what only the cancelled one needs ends", func() bool {
		return len(p.ofState(jobs.Cancelled, "image")) == 20 && len(p.ofState(jobs.Cancelled, "part")) == 2 && len(cancelledLayers(p)) == 20
	})
	if got := cancelledLayers(p); slices.Max(got) >= 20 {
		t.Errorf("layers %v were cancelled, of which the other root needs those from 20 on", got)
	}
	before := f.runs()
	close(gate)
	if got := result[int](t, p.waitState(needed.ID, jobs.Done)); got != 20*layersOfImage {
		t.Errorf("the other root's result is %d, want %d", got, 20*layersOfImage)
	}
	for n, k := range f.runs() {
		if n < 20 && k != before[n] {
			t.Errorf("layer %d ran after it was cancelled", n)
		}
	}
	if st := p.get(doomed.ID); st.State != jobs.Cancelled {
		t.Errorf("the cancelled root is %s", st.State)
	}
}

func cancelledLayers(p *pool) (ns []int) {
	for _, id := range p.ofState(jobs.Cancelled, "") {
		var a pureArgs
		if st := p.get(id); st.Job.Kind == a.Kind() {
			if err := json.Unmarshal(st.Job.Args, &a); err != nil {
				p.t.Fatal(err)
			}
			n, err := strconv.Atoi(a.Digest)
			if err != nil {
				p.t.Fatal(err)
			}
			ns = append(ns, n)
		}
	}
	return ns
}
