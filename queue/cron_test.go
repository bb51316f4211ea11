package queue_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

// cron makes a timetable for a test job of its own name.
func (p *pool) cron(name, schedule string) queue.Cron {
	p.t.Helper()
	made, err := jobs.NewTemplate(testArgs{Name: name}, jobs.Options{})
	if err != nil {
		p.t.Fatal(err)
	}
	cr := queue.Cron{Name: name, Schedule: schedule, Job: made}
	if err := p.SetCron(p.t.Context(), cr); err != nil {
		p.t.Fatal(err)
	}
	return cr
}

// cronPool has a worker that tells the names of the jobs that it runs.
func cronPool(t *testing.T) (*pool, <-chan string) {
	p, ran := newPool(t), make(chan string, 100)
	if err := p.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	p.worker(handle(func(_ context.Context, a testArgs) (any, error) { ran <- a.Name; return nil, nil }), worker.Config{Name: "w1"})
	return p, ran
}

// fire fires a timetable by hand.
func (p *pool) fire(name string) jobs.ID {
	p.t.Helper()
	id, err := p.FireCron(p.t.Context(), name)
	if err != nil {
		p.t.Fatal(err)
	}
	return id
}

// submitted waits until a scheduler has submitted the job of a fire.
func (p *pool) submitted(id jobs.ID) jobs.ID {
	p.t.Helper()
	if err := p.AwaitJob(p.t.Context(), id); err != nil {
		p.t.Fatal(err)
	}
	return id
}

func (p *pool) crons() []queue.CronStatus {
	p.t.Helper()
	all, err := p.Crons(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	return all
}

func (p *pool) jobs() []queue.Status {
	p.t.Helper()
	all, err := p.List(p.t.Context(), queue.Filter{})
	if err != nil {
		p.t.Fatal(err)
	}
	return all
}

func TestCronFires(t *testing.T) {
	p, ran := cronPool(t)
	p.scheduler(scheduler.Config{})
	p.cron("tick", "@every 1s")
	p.cron("never", "0 0 1 1 *")
	for range 3 {
		if got := await(t, ran, "fire"); got != "tick" {
			t.Fatalf("job %q ran", got)
		}
	}
	all := p.crons()
	if len(all) != 2 || all[0].Name != "never" || all[0].Last != nil || all[1].Name != "tick" || all[1].Last == nil {
		t.Fatalf("got %+v", all)
	}
	p.waitState(p.submitted(all[1].Last.Job), jobs.Done)
	if d := all[1].Next.Sub(all[1].Last.Time); d <= 0 || d > 2*time.Second {
		t.Errorf("the next fire is %v after the last", d)
	}
	if err := p.RemoveCron(t.Context(), "tick"); err != nil {
		t.Fatal(err)
	}
	if all := p.crons(); len(all) != 1 || all[0].Name != "never" {
		t.Errorf("got %+v", all)
	}
}

// A timetable is replaced as a whole, and fires by hand.
func TestCronReplacedAndFiredByHand(t *testing.T) {
	p, ran := cronPool(t)
	p.scheduler(scheduler.Config{})
	p.cron("report", "@every 1s")
	p.cron("report", "0 3 * * *")
	if all := p.crons(); len(all) != 1 || all[0].Schedule != "0 3 * * *" {
		t.Fatalf("got %+v", all)
	}
	for range 2 {
		id := p.fire("report")
		await(t, ran, "job")
		p.waitState(id, jobs.Done)
	}
}

// While no scheduler runs fires are not lost, but only the last one counts.
func TestCronCaughtUp(t *testing.T) {
	p, ran := cronPool(t)
	p.cron("tick", "0 3 * * *")
	for range 3 {
		p.fire("tick")
	}
	p.scheduler(scheduler.Config{})
	await(t, ran, "fire")
	p.cron("mark", "0 3 * * *")
	p.fire("mark")
	if got := await(t, ran, "second fire"); got != "mark" {
		t.Errorf("%s was caught up with twice", got)
	}
}

// Of two schedulers one submits; a fire that is delivered again is the same job.
func TestCronFiresOnce(t *testing.T) {
	p, ran := cronPool(t)
	p.scheduler(scheduler.Config{})
	p.scheduler(scheduler.Config{})
	p.cron("once", "0 3 * * *")
	p.fire("once")
	await(t, ran, "fire")
	p.until("an answer for the fire", func() bool {
		c, err := p.JetStream().Consumer(t.Context(), "SCHED", "cron")
		return err == nil && c.CachedInfo().NumAckPending == 0 && c.CachedInfo().NumPending == 0
	})
	if all := p.jobs(); len(all) != 1 {
		t.Errorf("one fire made %d jobs", len(all))
	}
}

func TestCronSurvivesServer(t *testing.T) {
	p, ran := cronPool(t)
	p.scheduler(scheduler.Config{})
	p.cron("tick", "@every 1s")
	await(t, ran, "fire")
	p.stop()
	p.start()
	for len(ran) > 0 {
		<-ran
	}
	await(t, ran, "fire after the restart")
}

func TestCronRefused(t *testing.T) {
	p := newPool(t)
	if err := p.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for name, cr := range map[string]queue.Cron{
		"name":              {Name: "a.b", Schedule: "@daily"},
		"seven fields":      {Name: "a", Schedule: "0 0 0 0 0 0 0"},
		"hour 25":           {Name: "a", Schedule: "0 25 * * *"},
		"half a second":     {Name: "a", Schedule: "@every 500ms"},
		"time zone":         {Name: "a", Schedule: "@daily", TimeZone: "Europe/Atlantis"},
		"time zone, @every": {Name: "a", Schedule: "@every 1m", TimeZone: "Europe/Zurich"},
		"empty":             {Name: "a"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := p.SetCron(t.Context(), cr); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "cron") {
				t.Errorf("got %v", err)
			}
		})
	}
	if err := p.SetCron(t.Context(), queue.Cron{Name: "a", Schedule: "30 3 * * 1-5", TimeZone: "Europe/Zurich"}); err != nil {
		t.Error(err)
	}
	if err := p.RemoveCron(t.Context(), "absent"); !errdefs.IsNotFound(err) {
		t.Errorf("remove: got %v", err)
	}
	if _, err := p.FireCron(t.Context(), "absent"); !errdefs.IsNotFound(err) {
		t.Errorf("fire: got %v", err)
	}
}

// Who fires by hand may ask for the job at once; without a scheduler it is not there.
func TestAwaitFiredJob(t *testing.T) {
	p, _ := cronPool(t)
	p.cron("report", "0 3 * * *")
	id := p.fire("report")
	if err := p.AwaitJob(t.Context(), id); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "scheduler") {
		t.Errorf("got %v without a scheduler", err)
	}
	p.scheduler(scheduler.Config{})
	for range 5 {
		if err := p.AwaitJob(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Get(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		id = p.fire("report")
	}
}

// A fire that is delivered again opens no job that has ended since.
func TestFireDeliveredAgain(t *testing.T) {
	p, _ := cronPool(t)
	cr := p.cron("report", "0 3 * * *")
	id := p.fire("report")
	j, err := cr.Job.Job("cron report " + p.crons()[0].Last.Time.UTC().Format(time.RFC3339Nano))
	if err != nil || j.ID != id {
		t.Fatalf("made job %s, want %s, %v", j.ID, id, err)
	}
	if _, err := p.Submit(t.Context(), j); err != nil { // as a scheduler that died before its ack
		t.Fatal(err)
	}
	if _, err := p.Cancel(t.Context(), id, "not today"); err != nil {
		t.Fatal(err)
	}
	p.cron("mark", "0 3 * * *")
	mark := p.fire("mark")
	p.scheduler(scheduler.Config{})
	p.until("the fire behind it", func() bool { _, err := p.Get(t.Context(), mark); return err == nil })
	if st, err := p.Get(t.Context(), id); err != nil || st.State != jobs.Cancelled || st.Generation != 1 {
		t.Errorf("got %s of generation %d, %v, want the job as it was cancelled", st.State, st.Generation, err)
	}
}
