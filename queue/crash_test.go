package queue_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

// TestMain makes this binary a worker process when the environment says so.
func TestMain(m *testing.M) {
	if path := os.Getenv("LITHIFY_TEST_WORKER"); path != "" {
		if err := workForever(path); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		f.Value.Set("8") // these tests wait for leases and pulls, not for the processor
	}
	os.Exit(m.Run())
}

// workForever is a worker whose jobs never end: each says that it started.
func workForever(contextFile string) error {
	ctx := context.Background()
	c, err := queue.Connect(ctx, queue.Config{ContextFile: contextFile, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	w, err := worker.New(c, handle(func(ctx context.Context, a testArgs) (any, error) {
		fmt.Println("started", a.Name)
		for tick := time.Tick(50 * time.Millisecond); ; {
			select {
			case <-tick:
				jobs.Alive(ctx, 1)
			case <-ctx.Done():
				fmt.Println("stopped", context.Cause(ctx))
				return "from the child", nil
			}
		}
	}), worker.Config{Name: "child", Slots: 1})
	if err != nil {
		return err
	}
	return w.Run(ctx)
}

// child starts a worker process and gives its output's lines.
func (p *pool) child() (*exec.Cmd, <-chan string) {
	p.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "LITHIFY_TEST_WORKER="+p.cfg.ContextFile)
	cmd.Stderr = p.t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	lines := make(chan string, 16)
	go func(r io.Reader) {
		for s := bufio.NewScanner(r); s.Scan(); {
			lines <- s.Text()
		}
		close(lines)
	}(out)
	return cmd, lines
}

func (p *pool) expect(lines <-chan string, prefix string) {
	p.t.Helper()
	if got := await(p.t, lines, prefix); !strings.HasPrefix(got, prefix) {
		p.t.Fatalf("child says %q, want %s", got, prefix)
	}
}

func TestWorkerKilledInMidJob(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{AckWait: lease})
	cmd, lines := p.child()
	id := p.submit(testArgs{Name: "x"}, jobs.Options{}).ID
	p.expect(lines, "started x")
	p.until("the child on the list", func() bool { // and its job with it
		ws, err := p.Workers(t.Context())
		return err == nil && len(ws) == 1 && len(ws[0].Running) == 1 && ws[0].Running[0].ID == id && ws[0].PID == cmd.Process.Pid
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	var runs atomic.Int32
	p.worker(handle(func(context.Context, testArgs) (any, error) { runs.Add(1); return "second", nil }), worker.Config{Name: "w2"})
	st := p.waitState(id, jobs.Done)
	if result[string](t, st) != "second" || st.Attempt < 2 {
		t.Errorf("got %+v after %d runs", st.Record, runs.Load())
	}
	t.Log("done", time.Since(killed).Round(time.Millisecond), "after the kill, AckWait", lease)
}

// A worker whose connection is cut keeps no claim it cannot prove.
func TestWorkerAbandoned(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{AckWait: lease})
	id := p.submit(testArgs{}, jobs.Options{}).ID
	c := p.connect("gone")
	p.until("admission", func() bool { return p.inWork(id) })
	gone := &pool{Client: c, t: t, cfg: p.cfg, log: p.log}
	gone.apply(gone.get(id), gone.claimOf(gone.pullByHand(id), "gone"))
	c.Close()
	p.worker(handle(func(context.Context, testArgs) (any, error) { return "second", nil }), worker.Config{Name: "w2"})
	if st := p.waitState(id, jobs.Done); st.Attempt < 2 {
		t.Errorf("got %+v", st.Record)
	}
}

// The job that takes its workers with it ends after the second, with attempts
// left, and frees its subject.
func TestJobThatKillsItsWorkers(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{AckWait: lease})
	id := p.submit(testArgs{}, jobs.Options{}).ID
	for _, w := range []string{"first", "second"} {
		p.apply(p.get(id), p.claimOf(p.pullByHand(id), w))
	}
	p.worker(handle(func(context.Context, testArgs) (any, error) { return 1, nil }), worker.Config{Name: "w3"})
	st := p.waitState(id, jobs.Dead)
	if st.Failure.Class != jobs.ClassPoison || !strings.Contains(st.Failure.Message, "second") || st.Attempt >= st.MaxAttempts {
		t.Errorf("got %+v %+v", st.Record, st.Failure)
	}
	p.until("free subject", func() bool { return !p.inWork(id) })
}

// What a crash can leave between two writes, one gap each.
func TestGaps(t *testing.T) {
	sweep := scheduler.Config{Sweep: 50 * time.Millisecond}
	ok := handle(func(context.Context, testArgs) (any, error) { return "ok", nil })

	t.Run("submitted, not admitted", func(t *testing.T) {
		p := newPool(t)
		if err := p.Setup(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		id := p.submit(testArgs{}, jobs.Options{}).ID // no scheduler has ever run
		p.scheduler(scheduler.Config{})
		p.worker(ok, worker.Config{Name: "w1"})
		p.waitState(id, jobs.Done)
	})
	t.Run("admitted, message lost", func(t *testing.T) {
		p := newPool(t)
		p.scheduler(sweep)
		id := p.submit(testArgs{}, jobs.Options{}).ID
		p.until("admission", func() bool { return p.inWork(id) })
		p.purge(id)
		p.worker(ok, worker.Config{Name: "w1"})
		p.waitState(id, jobs.Done)
	})
	t.Run("running, worker and message lost", func(t *testing.T) {
		p := newPool(t)
		p.scheduler(sweep)
		id := p.submit(testArgs{}, jobs.Options{}).ID
		p.apply(p.get(id), p.claimOf(p.pullByHand(id), "gone"))
		p.purge(id)
		p.worker(ok, worker.Config{Name: "w1"})
		p.waitState(id, jobs.Done)
	})
	t.Run("running, message lost, worker there", func(t *testing.T) {
		p := newPool(t)
		p.scheduler(scheduler.Config{Sweep: 250 * time.Millisecond}) // it hears of the announcement within two sweeps
		started, release := make(chan struct{}, 2), make(chan struct{})
		p.worker(handle(func(context.Context, testArgs) (any, error) {
			started <- struct{}{}
			<-release
			return "ok", nil
		}), worker.Config{Name: "w1"})
		id := p.submit(testArgs{}, jobs.Options{}).ID
		await(t, started, "start")
		p.until("announcement", func() bool {
			ws, err := p.Workers(t.Context())
			return err == nil && len(ws) == 1 && len(ws[0].Running) == 1
		})
		p.purge(id)
		// Two more jobs pass through admission and a sweep each: time enough
		// for the first to be published again, if it were.
		for range 2 {
			dummy := p.submit(testArgs{}, jobs.Options{Timeout: time.Millisecond}).ID
			p.waitState(dummy, jobs.Failed)
		}
		if p.inWork(id) {
			t.Error("published again under a worker that says it is on it")
		}
		close(release)
		if st := p.waitState(id, jobs.Done); st.Attempt != 1 {
			t.Errorf("got %+v", st.Record)
		}
	})
	t.Run("done, not acked", func(t *testing.T) {
		p := newPool(t)
		p.scheduler(sweep)
		id := p.submit(testArgs{}, jobs.Options{}).ID
		st := p.apply(p.get(id), p.claimOf(p.pullByHand(id), "gone"))
		p.apply(st, jobs.Finish{Claim: st.Revision, Result: []byte(`1`), At: time.Now()})
		p.until("free subject", func() bool { return !p.inWork(id) })
	})
	t.Run("retry written, message not acked", func(t *testing.T) {
		p := newPool(t)
		p.scheduler(scheduler.Config{AckWait: lease})
		id := p.submit(testArgs{}, jobs.Options{}).ID
		st := p.apply(p.get(id), p.claimOf(p.pullByHand(id), "gone"))
		p.apply(st, jobs.Fail{Claim: st.Revision, Failure: jobs.Failure{Class: jobs.ClassTransient}, Delay: time.Millisecond, At: time.Now()})
		p.worker(ok, worker.Config{Name: "w1"})
		p.waitState(id, jobs.Done)
	})
	t.Run("handed back, message not returned", func(t *testing.T) {
		p := newPool(t)
		p.scheduler(scheduler.Config{AckWait: lease})
		id := p.submit(testArgs{}, jobs.Options{}).ID
		st := p.apply(p.get(id), p.claimOf(p.pullByHand(id), "gone"))
		p.apply(st, jobs.HandBack{Claim: st.Revision, At: time.Now()})
		p.worker(ok, worker.Config{Name: "w1"})
		p.waitState(id, jobs.Done)
	})
	t.Run("dead, no letter", func(t *testing.T) {
		p := newPool(t)
		if err := p.Setup(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		st := p.apply(p.submit(testArgs{}, jobs.Options{MaxAttempts: 1}), jobs.Claim{Worker: "w1", At: time.Now()})
		p.apply(st, jobs.Fail{Claim: st.Revision, Failure: jobs.Failure{Class: jobs.ClassTransient, Message: "boom"}, At: time.Now()})
		p.scheduler(scheduler.Config{})
		p.until("the dead letter", func() bool {
			letter, err := p.DeadLetter(t.Context(), st.ID)
			return err == nil && letter.Failure.Message == "boom"
		})
	})
}

func (p *pool) purge(id jobs.ID) {
	p.t.Helper()
	s, err := p.JetStream().Stream(p.t.Context(), queue.StreamWork)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := s.Purge(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	if p.inWork(id) {
		p.t.Fatal("purged and still there")
	}
}

// The server goes away in mid-job, once while the handler works and once while
// its result is being written, and comes back on the same directory.
func TestServerRestartInMidJob(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{})
	var runs atomic.Int32
	started, release := make(chan struct{}, 8), make(chan struct{})
	p.worker(handle(func(context.Context, testArgs) (any, error) {
		runs.Add(1)
		started <- struct{}{}
		<-release
		return "ok", nil
	}), worker.Config{Name: "w1"})
	url := p.srv.URL()

	working := p.submit(testArgs{}, jobs.Options{}).ID
	await(t, started, "start")
	p.stop()
	p.start()
	if p.srv.URL() != url {
		t.Errorf("came back at %s, was at %s", p.srv.URL(), url)
	}
	p.until("reconnection", p.Connected)
	committing := p.submit(testArgs{}, jobs.Options{}).ID
	await(t, started, "start")
	p.stop()
	close(release) // both results have nowhere to go now
	p.start()
	for _, id := range []jobs.ID{working, committing} {
		if st := p.waitState(id, jobs.Done); st.Attempt != 1 || st.Generation != 1 {
			t.Errorf("got %+v", st.Record)
		}
	}
	if n := runs.Load(); n != 2 {
		t.Errorf("two jobs ran %d times", n)
	}
	after := p.submit(testArgs{}, jobs.Options{}).ID
	p.waitState(after, jobs.Done)
}

// Heartbeats go on after a restart: a long job keeps its claim.
func TestHeartbeatAfterServerRestart(t *testing.T) {
	const ackWait = 6 * time.Second // above the stalls of a busy disk
	p := newPool(t)
	p.scheduler(scheduler.Config{AckWait: ackWait})
	started, finish := make(chan struct{}, 8), make(chan struct{})
	p.worker(handle(func(ctx context.Context, _ testArgs) (any, error) {
		started <- struct{}{}
		for tick := time.Tick(ackWait / 10); ; {
			select {
			case <-tick:
				jobs.Alive(ctx, 1)
			case <-finish:
				return "ok", nil
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
	}), worker.Config{Name: "w1"})
	id := p.submit(testArgs{}, jobs.Options{}).ID
	await(t, started, "start")
	p.stop()
	p.start()
	p.until("reconnection", p.Connected)
	beats := p.spy("$JS.ACK." + queue.StreamWork + ".>")
	for since := time.Now(); time.Since(since) < ackWait+ackWait/4; {
		await(t, beats, "heartbeat")
	}
	close(finish)
	if st := p.waitState(id, jobs.Done); st.Attempt != 1 {
		t.Errorf("got %+v", st.Record)
	}
}
