package queue_test

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	"github.com/lithify/lithify/jobs"
)

// Many jobs are answered as each would be: the new, those that wait, are done or
// ended without a result, and one that is there twice.
func TestSubmitAll(t *testing.T) {
	p := newPool(t)
	p.setup()
	job := func(a jobs.Args, o jobs.Options) jobs.Job {
		j, err := jobs.New(a, o)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	queued := p.submit(pureArgs{"7"}, jobs.Options{})
	cancelled := p.submit(pureArgs{"8"}, jobs.Options{})
	if _, err := p.Cancel(t.Context(), cancelled.ID, "test"); err != nil {
		t.Fatal(err)
	}
	var js []jobs.Job
	for i := range 700 {
		js = append(js, job(pureArgs{strconv.Itoa(i)}, jobs.Options{}))
	}
	js = append(js, js[300])
	sts, err := p.SubmitAll(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	for i, st := range sts {
		now, err := p.Get(t.Context(), js[i].ID)
		if err != nil || st.ID != js[i].ID || st.Revision != now.Revision || now.State != jobs.Queued || now.Job.ID != st.ID {
			t.Fatalf("job %d was answered %+v at %d; it is %+v at %d, %v", i, st.Record, st.Revision, now.Record, now.Revision, err)
		}
	}
	if st := sts[7]; st.Revision != queued.Revision {
		t.Errorf("a job that waited is at %d, was at %d", st.Revision, queued.Revision)
	}
	if st := sts[8]; st.Generation != 2 {
		t.Errorf("a cancelled job is in generation %d, want 2", st.Generation)
	}
	first := job(testArgs{"a"}, jobs.Options{IdempotencyKey: "k"})
	other := job(testArgs{"b"}, jobs.Options{IdempotencyKey: "k"})
	_, err = p.SubmitAll(t.Context(), []jobs.Job{first, job(testArgs{"c"}, jobs.Options{})})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = p.SubmitAll(t.Context(), []jobs.Job{job(testArgs{"d"}, jobs.Options{}), other}); !errdefs.IsAlreadyExists(err) || !strings.Contains(err.Error(), string(other.ID)) {
		t.Errorf("got %v, want that the key of %s is taken", err, other.ID)
	}
	large := job(testArgs{strings.Repeat("x", 256<<10)}, jobs.Options{})
	if _, err = p.SubmitAll(t.Context(), []jobs.Job{job(testArgs{"e"}, jobs.Options{}), large}); !errdefs.IsOutOfRange(err) {
		t.Errorf("got %v, want that a job is too large", err)
	}
}

// A worker that has hundreds of jobs submit thousands each does not take memory for all
// at once.
func TestSubmitAllIsBounded(t *testing.T) {
	p := startPool(t) // no other test runs beside it: goroutines are counted
	p.setup()
	const callers, each = 60, 250
	before := runtime.NumGoroutine()
	var g errgroup.Group
	for n := range callers {
		g.Go(func() error {
			js := make([]jobs.Job, each)
			for i := range js {
				var err error
				if js[i], err = jobs.New(pureArgs{fmt.Sprint(n, i)}, jobs.Options{}); err != nil {
					return err
				}
			}
			_, err := p.SubmitAll(t.Context(), js)
			return err
		})
	}
	done := make(chan error)
	go func() { done <- g.Wait() }()
	for most := 0; ; runtime.Gosched() {
		most = max(most, runtime.NumGoroutine()-before)
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			if limit := callers * each / 4; most > limit {
				t.Errorf("%d goroutines at a time for %d jobs, want at most %d", most, callers*each, limit)
			}
			return
		default:
		}
	}
}
