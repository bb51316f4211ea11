package queue_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

func (p *pool) setup() {
	p.t.Helper()
	if err := p.Setup(p.t.Context(), 1); err != nil {
		p.t.Fatal(err)
	}
}

// crowd submits n jobs.
func (p *pool) crowd(n int) []queue.Status {
	p.t.Helper()
	p.setup()
	sts, errs := make([]queue.Status, n), make([]error, n)
	var all sync.WaitGroup
	for i := range sts {
		all.Go(func() {
			j, err := jobs.New(testArgs{strconv.Itoa(i)}, jobs.Options{})
			if err == nil {
				sts[i], err = p.Submit(p.t.Context(), j)
			}
			errs[i] = err
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		p.t.Fatal(err)
	}
	return sts
}

// claims claims every job at once, as worker, and gives what Apply gave.
func claims(ctx context.Context, c *queue.Client, worker string, sts []queue.Status) ([]queue.Status, []error) {
	got, errs := make([]queue.Status, len(sts)), make([]error, len(sts))
	var all sync.WaitGroup
	for i, st := range sts {
		all.Go(func() { got[i], errs[i] = c.Apply(ctx, st, jobs.Claim{Worker: worker, At: time.Now().UTC()}) })
	}
	all.Wait()
	return got, errs
}

// batched counts the records that were written in a batch with others.
func (p *pool) batched(sts []queue.Status) (n int) {
	p.t.Helper()
	s, err := p.JetStream().Stream(p.t.Context(), queue.StreamState)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, st := range sts {
		m, err := s.GetLastMsgForSubject(p.t.Context(), fmt.Sprintf("st.%s.%s.run", st.ID.Scope(), st.ID.Key()))
		if err != nil {
			p.t.Fatal(err)
		}
		if m.Header.Get(jetstreamext.BatchIDHeader) != "" {
			n++
		}
	}
	return n
}

// Writes that meet go out in a batch, and each caller learns the sequence of its own.
func TestABatch(t *testing.T) {
	p := newPool(t)
	sts := p.crowd(300)
	got, errs := claims(t.Context(), p.Client, "w", sts)
	for i, st := range got {
		now, err := p.Get(t.Context(), sts[i].ID)
		if err != nil || errs[i] != nil || now.Revision != st.Revision || now.Worker != "w" {
			t.Fatalf("write %d: %v, revision %d; the job is %+v at %d, %v", i, errs[i], st.Revision, now.Record, now.Revision, err)
		}
	}
	if n := p.batched(sts); n < len(sts)/2 {
		t.Errorf("%d of %d records were written in batches", n, len(sts))
	}
}

// Of a batch in which some messages conflict, the others are written, and each
// caller learns the sequence of its own message.
func TestConflictsInABatch(t *testing.T) {
	p := newPool(t)
	sts := p.crowd(300)
	stale := map[int]bool{0: true, 7: true, 8: true, 150: true, 299: true}
	for i := range stale {
		if _, err := p.Cancel(t.Context(), sts[i].ID, "test"); err != nil {
			t.Fatal(err)
		}
	}
	got, errs := claims(t.Context(), p.Client, "w", sts)
	for i, st := range got {
		now, err := p.Get(t.Context(), sts[i].ID)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case stale[i] && (!errdefs.IsConflict(errs[i]) || now.State != jobs.Cancelled):
			t.Errorf("stale write %d: %v; the job is %s", i, errs[i], now.State)
		case !stale[i] && (errs[i] != nil || now.State != jobs.Running || now.Revision != st.Revision):
			t.Errorf("write %d: %v, revision %d; the job is %s at %d", i, errs[i], st.Revision, now.State, now.Revision)
		}
	}
}

// Many handlers submit children that others have submitted a moment ago: the server
// refuses such a batch without a word about which, and trying halves of it again and
// again took longer than a write may take.
func TestConflictsCostNoHalving(t *testing.T) {
	p := newPool(t)
	p.setup()
	const n = 400
	submit := func(step int) {
		var all sync.WaitGroup
		for i := 0; i < n; i += step {
			all.Go(func() {
				j, err := jobs.New(pureArgs{strconv.Itoa(i)}, jobs.Options{})
				if err == nil {
					_, err = p.Submit(t.Context(), j)
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	submit(2)
	var sent atomic.Int64
	sub, err := p.JetStream().Conn().Subscribe("st.>", func(*nats.Msg) { sent.Add(1) })
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	submit(1)
	if err := p.JetStream().Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	// Each is sent once, those that do not conflict once more, and again if theirs meets
	// a later batch's.
	if got := sent.Load(); got < n || got > 3*2*n {
		t.Errorf("%d messages for %d jobs of two each", got, n)
	}
}

// Two writes of one subject cannot be in one batch: the second has to see the first.
func TestOneSubjectTwice(t *testing.T) {
	p := newPool(t)
	p.setup()
	st := p.submit(testArgs{"x"}, jobs.Options{})
	same := make([]queue.Status, 50)
	for i := range same {
		same[i] = st
	}
	won := 0
	got, errs := claims(t.Context(), p.Client, "w", same)
	for i, err := range errs {
		if err == nil {
			won++
			st = got[i]
		} else if !errdefs.IsConflict(err) {
			t.Error(err)
		}
	}
	now, err := p.Get(t.Context(), st.ID)
	if err != nil || won != 1 || now.Revision != st.Revision || now.Attempt != 1 {
		t.Errorf("%d of 50 claims won, at %d; the record %+v, %v", won, st.Revision, now, err)
	}
}

// Two processes claim the same jobs, both in batches: each job is one's.
func TestTwoClientsRace(t *testing.T) {
	p := newPool(t)
	sts, other := p.crowd(200), p.connect("other")
	var mine, theirs []queue.Status
	var mineErr, theirsErr []error
	var both sync.WaitGroup
	both.Go(func() { mine, mineErr = claims(t.Context(), p.Client, "mine", sts) })
	both.Go(func() { theirs, theirsErr = claims(t.Context(), other, "theirs", sts) })
	both.Wait()
	for i := range sts {
		won, name := mine[i], "mine"
		if mineErr[i] != nil {
			won, name = theirs[i], "theirs"
		}
		if (mineErr[i] == nil) == (theirsErr[i] == nil) {
			t.Errorf("job %d: mine %v, theirs %v: want one winner", i, mineErr[i], theirsErr[i])
		}
		now, err := p.Get(t.Context(), sts[i].ID)
		if err != nil || now.Worker != name || now.Revision != won.Revision || now.Attempt != 1 {
			t.Errorf("job %d, won by %s at %d: %+v, %v", i, name, won.Revision, now.Record, err)
		}
	}
}

// A new job that comes alone is written in turn, which the server does not stage. A
// spec that a crash left without its record is nobody's: the next submission has its own,
// and the one that wrote it and lives on has lost.
func TestANewJobInTurn(t *testing.T) {
	p := newPool(t)
	p.setup()
	st := p.submit(testArgs{"alone"}, jobs.Options{})
	if n := p.batched([]queue.Status{st}); n != 0 {
		t.Error("it was written in a batch")
	}
	again := p.submit(testArgs{"again"}, jobs.Options{IdempotencyKey: "k"})
	left, err := jobs.New(testArgs{"left"}, jobs.Options{IdempotencyKey: "left"})
	if err != nil {
		t.Fatal(err)
	}
	subjects := "st." + left.ID.Scope() + "." + left.ID.Key() + "."
	put := func(part string) error {
		_, err := p.JetStream().Publish(t.Context(), subjects+part, []byte(`{}`), jetstream.WithExpectLastSequencePerSubject(0))
		return err
	}
	if err := put("spec"); err != nil {
		t.Fatal(err)
	}
	next := p.submit(testArgs{"next"}, jobs.Options{IdempotencyKey: "left"})
	if n := p.batched([]queue.Status{next}); n != 1 || next.ID != left.ID || next.Revision <= again.Revision {
		t.Errorf("submitted over a spec that was left: %d in a batch, %+v", n, next)
	}
	if now, err := p.Get(t.Context(), left.ID); err != nil || now.Job.ArgsDigest != next.Job.ArgsDigest {
		t.Errorf("it is %+v, %v", now.Job, err)
	}
	if err := put("run"); err == nil {
		t.Error("the record of the one who left the spec was taken")
	}
}

// Clients that submit under one key at the same time, each with args of its own: the
// job that is there is one's, and all others hear that it is not theirs.
func TestOneKeyManyClients(t *testing.T) {
	p := newPool(t)
	p.setup()
	clients := make([]*queue.Client, 6)
	for i := range clients {
		clients[i] = p.connect(strconv.Itoa(i))
	}
	for round := range 30 {
		sts, errs := make([]queue.Status, len(clients)), make([]error, len(clients))
		var all sync.WaitGroup
		for i, c := range clients {
			j, err := jobs.New(testArgs{strconv.Itoa(i)}, jobs.Options{IdempotencyKey: strconv.Itoa(round)})
			if err != nil {
				t.Fatal(err)
			}
			all.Go(func() { sts[i], errs[i] = c.Submit(t.Context(), j) })
		}
		all.Wait()
		won := 0
		for i, err := range errs {
			if err != nil {
				if !errdefs.IsAlreadyExists(err) {
					t.Error(err)
				}
				continue
			}
			won++
			if now, err := p.Get(t.Context(), sts[i].ID); err != nil || now.Revision != sts[i].Revision || now.Job.ArgsDigest != sts[i].Job.ArgsDigest {
				t.Errorf("round %d: %d won with %s, the job has %s, %v", round, i, sts[i].Job.Args, now.Job.Args, err)
			}
		}
		if won != 1 {
			t.Errorf("round %d: %d were told that the job is theirs", round, won)
		}
	}
}

// A server that goes away in the middle of batches leaves no write unaccounted for:
// one that was answered is there, one that was refused is not, and all others can
// be settled by looking.
func TestServerRestartsInABatch(t *testing.T) {
	p := newPool(t)
	sts := p.crowd(200)
	begun, restarted := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(restarted)
		<-begun
		p.stop()
		p.start()
	}()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var all sync.WaitGroup
	var once sync.Once
	for i, st := range sts {
		all.Go(func() {
			for round := range 20 { // claim and hand back, as a worker does
				at := time.Now().UTC()
				var e jobs.Edge = jobs.Claim{Worker: "w", At: at}
				if st.State == jobs.Running {
					e = jobs.HandBack{Claim: st.Revision, At: at}
				}
				next, err := p.Apply(ctx, st, e)
				for err != nil && ctx.Err() == nil {
					now, gerr := p.Get(ctx, st.ID)
					switch {
					case gerr != nil: // not back yet
					case now.Updated.Equal(at):
						next, err = now, nil // it was written
					case now.Revision != st.Revision:
						err = errors.Join(err, fmt.Errorf("job %d is %+v at %d, was at %d", i, now.Record, now.Revision, st.Revision))
						t.Error(err)
						return
					default:
						next, err = p.Apply(ctx, st, e)
					}
				}
				if round == 5 {
					once.Do(func() { close(begun) })
				}
				st = next
			}
			if now, err := p.Get(ctx, st.ID); err != nil || now.Revision != st.Revision || now.State != jobs.Queued {
				t.Errorf("job %d: %+v at %d, want %d: %v", i, now.Record, now.Revision, st.Revision, err)
			}
		})
	}
	all.Wait()
	await(t, restarted, "restart")
}

// Of messages that are admitted together, those that are in WORK already are
// refused, and the others are there in the order given.
func TestAdmitSomeTwice(t *testing.T) {
	p := newPool(t)
	sts := p.crowd(100)
	var msgs []*nats.Msg
	there := map[int]bool{3: true, 50: true, 99: true}
	for i, st := range sts {
		msgs = append(msgs, p.Admission(st))
		if there[i] {
			if err := p.Admit(t.Context(), msgs[i:])[0]; err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, err := range p.Admit(t.Context(), msgs) {
		if there[i] != queue.IsQueued(err) || !there[i] && err != nil {
			t.Errorf("message %d, there before: %v: %v", i, there[i], err)
		}
	}
	s, err := p.JetStream().Stream(t.Context(), queue.StreamWork)
	if err != nil {
		t.Fatal(err)
	}
	if n := s.CachedInfo().State.Msgs; n != uint64(len(sts)) {
		t.Errorf("%d messages in WORK, want %d", n, len(sts))
	}
	next := uint64(len(there))
	for i, m := range msgs {
		if there[i] {
			continue
		}
		next++
		if got, err := s.GetMsg(t.Context(), next); err != nil || got.Subject != m.Subject {
			t.Fatalf("message %d is not the one given %d: %v", next, i, err)
		}
	}
}
