package queue_test

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

// waves is a worker of jobs "NAME" that wait for two waves of two jobs each, NAME-1 to NAME-4,
// those called "other..." for the first alone. Each of these tells that it began, and ends with release.
type waves struct {
	started chan string
	release chan struct{}
	submits chan struct{} // if there is one: a job "slow" submits its first wave after it
}

func (p *pool) waves(slots int) *waves {
	w := &waves{started: make(chan string, 100), release: make(chan struct{}), submits: make(chan struct{})}
	m := handle(func(ctx context.Context, a testArgs) (any, error) {
		if a.Name == "slow" && len(jobs.Children(ctx)) == 0 {
			w.started <- a.Name
			<-w.submits
		}
		var names []string
		for _, c := range jobs.Children(ctx) {
			args, err := jobs.DecodeArgs[pureArgs](c.Job.Args)
			if err != nil {
				return nil, err
			}
			names = append(names, args.Digest)
		}
		next := []string{"-1", "-2"}
		switch {
		case slices.Contains(names, a.Name+"-3"), len(names) > 0 && strings.HasPrefix(a.Name, "other"):
			return "done", nil
		case slices.Contains(names, a.Name+"-1"):
			next = []string{"-3", "-4"}
		}
		var js []jobs.Job
		for _, s := range next {
			j, err := jobs.New(pureArgs{a.Name + s}, jobs.Options{})
			if err != nil {
				return nil, err
			}
			js = append(js, j)
		}
		return nil, jobs.Await(js...)
	})
	jobs.Handle(m, func(ctx context.Context, a pureArgs) (any, error) {
		w.started <- a.Digest
		select {
		case <-w.release:
			return 1, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	})
	p.worker(m, worker.Config{Name: "w1", Slots: slots})
	return w
}

func (p *pool) pauseJob(id jobs.ID) queue.JobPause {
	p.t.Helper()
	if err := p.Setup(p.t.Context(), 1); err != nil { // the scheduler may not have come to it
		p.t.Fatal(err)
	}
	x, err := p.PauseJob(p.t.Context(), id, "alice", "node-1 is odd")
	if err != nil {
		p.t.Fatal(err)
	}
	return x
}

func (p *pool) resumeJob(id jobs.ID) {
	p.t.Helper()
	if err := p.ResumeJob(p.t.Context(), id, "bob"); err != nil {
		p.t.Fatal(err)
	}
}

// unpaused waits until nothing is written down of any job's pause.
func (p *pool) unpaused() {
	p.t.Helper()
	p.until("end of the pauses", func() bool {
		c, err := p.Controls(p.t.Context())
		return err == nil && len(c.Jobs) == 0
	})
}

func (p *pool) pure(name string) jobs.ID {
	p.t.Helper()
	j, err := jobs.New(pureArgs{name}, jobs.Options{})
	if err != nil {
		p.t.Fatal(err)
	}
	return j.ID
}

// A job that is paused begins nothing more of what it waits for, and no other wave; what runs
// goes on. Then it has lost no time.
func TestPauseJob(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{Sweep: calm})
	w := p.waves(1)
	id := p.submit(testArgs{Name: "x"}, jobs.Options{}).ID
	first := await(t, w.started, "first of the first wave")
	second := map[string]string{"x-1": "x-2", "x-2": "x-1"}[first]
	p.until("admission of the other", func() bool { return p.inWork(p.pure(second)) })
	before := p.get(id)

	pause := p.pauseJob(id)
	p.until("return of its message", func() bool { return !p.inWork(p.pure(second)) })
	if again := p.pauseJob(id); again != pause {
		t.Errorf("paused again: %+v, want %+v", again, pause)
	}
	words := []string{string(id) + " is paused since", "by alice: node-1 is odd"}
	p.explains(p.pure(second), queue.ReasonPaused, words...)
	p.explains(id, queue.ReasonPaused, words...)
	w.release <- struct{}{}
	p.waitState(p.pure(first), jobs.Done)
	w.others(p, "other y")
	p.explains(p.pure(second), queue.ReasonPaused, words...)

	p.resumeJob(id)
	if got := await(t, w.started, "second of the first wave"); got != second {
		t.Errorf("%s started, want %s", got, second)
	}
	p.unpaused()
	moved := p.get(id).Deadline.Sub(before.Deadline)
	if took := time.Since(pause.Since); moved <= 0 || moved > took {
		t.Errorf("the deadline is %v later after a pause of at most %v", moved, took)
	}

	// Between two waves.
	p.pauseJob(id)
	w.release <- struct{}{}
	p.until("the wave's end", func() bool { return p.get(id).State == jobs.Queued })
	p.explains(id, queue.ReasonPaused, words...)
	w.others(p, "other z")
	if st := p.get(id); st.State != jobs.Queued {
		t.Errorf("it is %s", st.State)
	}
	p.resumeJob(id)
	close(w.release)
	p.waitState(id, jobs.Done)
	p.unpaused()
	events, err := p.History(t.Context(), id, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for phrase, by := range map[string]string{"paused": "alice", "resumed": "bob"} {
		if !slices.ContainsFunc(events, func(e queue.Event) bool { return e.Phrase == phrase && e.Attrs["by"] == by }) {
			t.Errorf("its history does not tell that it was %s by %s: %+v", phrase, by, events)
		}
	}
}

// others has a job of somebody else go through its wave, while nothing else may begin.
func (w *waves) others(p *pool, name string) {
	p.t.Helper()
	id := p.submit(testArgs{Name: name}, jobs.Options{}).ID
	for range 2 {
		if got := await(p.t, w.started, "start of another's"); !strings.HasPrefix(got, name) {
			p.t.Errorf("%s started, which is held", got)
		}
		w.release <- struct{}{}
	}
	p.waitState(id, jobs.Done)
	if len(w.started) > 0 {
		p.t.Errorf("%s started, which is held", <-w.started)
	}
}

// What a job submits that is paused while it runs is held, also before it waits for it.
func TestPauseWhileItSubmits(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{Sweep: calm})
	w := p.waves(4)
	id := p.submit(testArgs{Name: "slow"}, jobs.Options{}).ID
	await(t, w.started, "handler")
	p.pauseJob(id)
	close(w.submits)
	p.until("its wait", func() bool { return p.get(id).State == jobs.Waiting })
	p.explains(p.pure("slow-1"), queue.ReasonPaused, string(id))
	if len(w.started) > 0 {
		t.Errorf("%s started", <-w.started)
	}
	p.resumeJob(id)
	close(w.release)
	p.waitState(id, jobs.Done)
}

// A job's time stands still while it is held, and somebody else's does not.
func TestPauseKeepsTheTime(t *testing.T) {
	p := newPool(t)
	p.control(func(*queue.Controls) {}) // makes the streams
	p.scheduler(scheduler.Config{Sweep: 20 * time.Millisecond})
	soon := jobs.Options{Timeout: 3 * time.Second}
	held := p.submit(testArgs{Name: "held"}, soon)
	p.pauseJob(held.ID)
	p.explains(held.ID, queue.ReasonPaused)
	other := p.submit(testArgs{Name: "other"}, soon)
	if st := p.waitState(other.ID, jobs.Failed); st.Deadline.Before(held.Deadline) {
		t.Fatalf("it was due at %v, before the other one", st.Deadline)
	}
	if st := p.get(held.ID); st.State != jobs.Queued || st.Deadline != held.Deadline {
		t.Errorf("it is %s, and was due at %v", st.State, st.Deadline)
	}
	p.worker(handle(func(context.Context, testArgs) (any, error) { return 1, nil }), worker.Config{Name: "w1"})
	p.resumeJob(held.ID)
	p.waitState(held.ID, jobs.Done)
}

// A pause goes with its job, also if no scheduler saw that end.
func TestPauseEnds(t *testing.T) {
	p := newPool(t)
	stop := p.scheduler(scheduler.Config{Sweep: calm})
	one, two := p.submit(testArgs{Name: "1"}, jobs.Options{}), p.submit(testArgs{Name: "2"}, jobs.Options{})
	end := func(id jobs.ID) {
		t.Helper()
		p.pauseJob(id)
		if _, err := p.Cancel(t.Context(), id, "it is not wanted"); err != nil {
			t.Fatal(err)
		}
	}
	end(one.ID)
	p.unpaused()
	stop()
	end(two.ID)
	three := p.submit(testArgs{Name: "3"}, jobs.Options{})
	p.pauseJob(three.ID)
	p.scheduler(scheduler.Config{Sweep: calm})
	p.until("end of one pause", func() bool {
		c, err := p.Controls(t.Context())
		if _, is := c.PausedJob(three.ID); err == nil && !is {
			t.Fatal("the pause of a job that has not ended is gone")
		}
		return err == nil && len(c.Jobs) == 1
	})
}

func TestPauseRefused(t *testing.T) {
	p := newPool(t)
	if err := p.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	ended, open := p.submit(testArgs{Name: "1"}, jobs.Options{}).ID, p.submit(testArgs{Name: "2"}, jobs.Options{}).ID
	if _, err := p.Cancel(t.Context(), ended, ""); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		do   func(jobs.ID) error
		id   jobs.ID
		is   func(error) bool
		says string
	}{
		"pause of none":      {p.pauses(""), "test-none", errdefs.IsNotFound, "test-none"},
		"pause of one ended": {p.pauses(""), ended, errdefs.IsFailedPrecondition, "is cancelled"},
		"a long reason":      {p.pauses(strings.Repeat("x", 401)), open, errdefs.IsInvalidArgument, "the limit is 400"},
		"an odd reason":      {p.pauses("odd\x1b[2J"), open, errdefs.IsInvalidArgument, "control characters"},
		"a broken reason":    {p.pauses("odd\xff"), open, errdefs.IsInvalidArgument, "one line of text"},
		"resume of none":     {p.resumes, "test-none", errdefs.IsNotFound, "test-none"},
		"resume of one more": {p.resumes, open, errdefs.IsFailedPrecondition, "is queued, and not paused"},
	} {
		if err := tc.do(tc.id); !tc.is(err) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// However many jobs are paused, for whatever reasons, each can be resumed, and all else be
// decided.
func TestPausesAreFew(t *testing.T) {
	p := newPool(t)
	if err := p.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	reason := strings.Repeat("<", 400) // 2400 bytes of JSON
	var paused []jobs.ID
	for n := 0; ; n++ {
		id := p.submit(testArgs{Name: strconv.Itoa(n)}, jobs.Options{}).ID
		err := p.pauses(reason)(id)
		if errdefs.IsResourceExhausted(err) {
			break
		}
		if err != nil {
			t.Fatalf("after %d: %v", n, err)
		}
		paused = append(paused, id)
	}
	if len(paused) < 50 {
		t.Errorf("only %d can be paused", len(paused))
	}
	p.control(func(c *queue.Controls) { c.Tenants = map[string]queue.Tenant{"acme": {Weight: 2}} })
	for _, id := range paused {
		p.resumeJob(id)
	}
}

func (p *pool) pauses(reason string) func(jobs.ID) error {
	return func(id jobs.ID) error { _, err := p.PauseJob(p.t.Context(), id, "", reason); return err }
}

func (p *pool) resumes(id jobs.ID) error { return p.ResumeJob(p.t.Context(), id, "") }

// Nothing of what is paused begins when a scheduler starts, whatever it hears of first.
func TestPauseBeforeTheScheduler(t *testing.T) {
	p := newPool(t)
	w := p.waves(8)
	stop := p.scheduler(scheduler.Config{Sweep: calm})
	var paused []jobs.ID
	for _, name := range []string{"a", "b", "c"} {
		paused = append(paused, p.submit(testArgs{Name: name}, jobs.Options{}).ID)
	}
	for range 6 {
		await(t, w.started, "start")
	}
	stop()
	for range 6 {
		w.release <- struct{}{}
	}
	for _, id := range paused { // each is about to be queued for its second wave
		p.pauseJob(id)
	}
	p.scheduler(scheduler.Config{Sweep: calm})
	w.others(p, "other z")
	for _, id := range paused {
		if st := p.get(id); st.State != jobs.Waiting && st.State != jobs.Queued || st.Waits != 1 {
			t.Errorf("job %s is %s and has waited %d times", id, st.State, st.Waits)
		}
	}
	var g sync.WaitGroup
	for _, id := range paused {
		g.Go(func() { p.resumeJob(id) })
	}
	g.Wait()
	close(w.release)
	for _, id := range paused {
		p.waitState(id, jobs.Done)
	}
	p.unpaused()
}
