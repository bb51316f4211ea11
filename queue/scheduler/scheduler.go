// Package scheduler admits submitted jobs to the workers and repairs what a
// crash left between two writes.
//
// It follows every record in STATE and keeps those that have not ended in
// memory; there is no other state, so a new scheduler starts where the last one
// stopped. Several may run: one leads, the others keep their memory as it does and
// take over within seconds. Two that lead at once are safe: a second message of one
// job is refused by the server, and the record decides what a message is worth.
package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// Config's zero value works.
type Config struct {
	Name     string        // unique; default host-xxxxxxxx
	Version  string        // for people
	Replicas int           // of the streams; default 1, 3 on a cluster
	AckWait  time.Duration // how long a silent worker keeps a job; default DefaultAckWait
	Sweep    time.Duration // between two sweeps; default DefaultSweep
	Keep     time.Duration // how long jobs that ended are remembered; default DefaultKeep
	Window   int           // least number of jobs admitted per class at a time; default DefaultWindow
	Log      *slog.Logger  // default: discards
	Ready    func()        // called once, when every record has been read; default: nothing
}

const (
	// DefaultAckWait is the lease of a job: a dead worker's job runs again within it.
	DefaultAckWait = 30 * time.Second
	// DefaultSweep is the longest a job can hang in a gap between two writes.
	DefaultSweep = 30 * time.Second
	// DefaultKeep leaves time to look at a job after a holiday. The result of a layer is
	// in the ledger, whatever happens to its job.
	DefaultKeep = 30 * 24 * time.Hour
	// unfinishedFor is far longer than a submission takes, on whichever clock.
	unfinishedFor = time.Hour
	// DefaultWindow keeps a class busy before its first worker has said how many slots it has.
	DefaultWindow = 64
	// perSlot jobs are admitted for each slot of a class: enough that no slot
	// waits for an admission, few enough that order stays the scheduler's to decide.
	perSlot = 4
	// leaveWithin bounds what a scheduler does that is told to stop.
	leaveWithin = 2 * time.Second
	// retryAdmission is the pause before a job whose admission did not work.
	retryAdmission = 250 * time.Millisecond
)

// Validators check the args of each kind; a job of another kind is refused.
type Validators map[string]func(json.RawMessage) error

// Scheduler is the service; make it with New.
type Scheduler struct {
	client   *queue.Client
	validate Validators
	cfg      Config
	log      *slog.Logger

	limits limits // of the hosts that jobs talk to

	// Below: owned by the loop of Run.
	pool                  *pool
	consumers             map[queue.Line]bool
	nodes                 map[string]queue.Node
	forgotten, unfinished uint64            // places up to which jobs that ended, or have no record, were removed
	faults                map[string]string // by subject in WORK: why a job cannot be read, as logged
	leads                 bool              // else it stands by: it follows, and does nothing
	moot                  []string          // subjects in WORK whose messages admit nothing any more
	unburied              []unburied        // that died while it stood by, or whose letters could not be written
	mark                  queue.Mark        // as last written
	unread                atomic.Uint64     // revision of the first record that this version cannot read; 0: none
	decided               bool              // it is known what people have decided
	unsettled             bool              // a pause of a job may be over
	retake                bool              // what was admitted may be paused
	adopted               bool              // consumers are known to be there, with settings that are not
}

// New makes a scheduler that has not started.
func New(c *queue.Client, v Validators, cfg Config) *Scheduler {
	if cfg.AckWait <= 0 {
		cfg.AckWait = DefaultAckWait
	}
	if cfg.Sweep <= 0 {
		cfg.Sweep = DefaultSweep
	}
	if cfg.Keep <= 0 {
		cfg.Keep = DefaultKeep
	}
	if cfg.Window <= 0 {
		cfg.Window = DefaultWindow
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Ready == nil {
		cfg.Ready = func() {}
	}
	return &Scheduler{client: c, validate: v, cfg: cfg, log: cfg.Log,
		consumers: map[queue.Line]bool{}, nodes: map[string]queue.Node{}, faults: map[string]string{}}
}

// Run creates the streams, then schedules until ctx is done. While the server is
// away it waits. It returns an error only if the server cannot be used at all.
func (s *Scheduler) Run(ctx context.Context) error {
	var err error
	if s.cfg.Name, err = queue.Named(s.cfg.Name); err != nil {
		return fmt.Errorf("scheduler: %w", err)
	}
	if err := s.client.Setup(ctx, s.cfg.Replicas); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("scheduler: %w", err)
	}
	s.pool = newPool(s.cfg.Window, s.limits.shutUntil)
	g, gctx := errgroup.WithContext(ctx)
	changes, nodes := make(chan queue.Change, 2*admitBatch), make(chan queue.NodeChange)
	g.Go(func() error { return s.follow(gctx, changes) })
	g.Go(func() error { return forward(gctx, s.client.WatchWorkers(gctx), nodes) })
	g.Go(func() error { return s.client.ServeCrons(gctx) })
	controls := make(chan queue.Controls)
	g.Go(func() error { return forward(gctx, s.client.WatchControls(gctx), controls) })
	asked, lead := make(chan question), make(chan bool)
	g.Go(func() error { return s.campaign(gctx, lead, asked) })
	g.Go(func() error { return s.loop(gctx, changes, nodes, controls, asked, lead) })
	if err := g.Wait(); ctx.Err() == nil {
		return fmt.Errorf("scheduler: %w", err)
	}
	s.leave(context.WithoutCancel(ctx))
	return nil
}

// leave spares the next start what has ended since the last sweep.
func (s *Scheduler) leave(ctx context.Context) {
	if !s.client.Connected() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, leaveWithin)
	defer cancel()
	if err := s.setMark(ctx); err != nil {
		s.log.Debug("mark not written", "error", err)
	}
}

// follow reads every record and each of its changes.
func (s *Scheduler) follow(ctx context.Context, out chan<- queue.Change) error {
	ready := sync.OnceFunc(s.cfg.Ready)
	mark, err := s.client.GetMark(ctx)
	if err != nil {
		s.log.Warn("every record is read", "error", err)
	}
	for ch, err := range s.client.FollowRecords(ctx, mark) {
		if err != nil && !errors.Is(err, queue.ErrUnreadable) {
			return err
		}
		if err != nil {
			s.unread.CompareAndSwap(0, ch.Revision)
			s.log.Error("unreadable record", "error", err)
		}
		select {
		case out <- ch:
		case <-ctx.Done():
			return ctx.Err()
		}
		if ch.Last {
			ready()
		}
	}
	return nil
}

func (s *Scheduler) loop(ctx context.Context, changes <-chan queue.Change, nodes <-chan queue.NodeChange, controls <-chan queue.Controls,
	asked <-chan question, lead <-chan bool) error {
	sweep := time.NewTicker(s.cfg.Sweep)
	defer sweep.Stop()
	wake := time.NewTimer(0)
	defer wake.Stop()
	for {
		select {
		case q := <-asked: // who asks waits for one turn, however much there is to do
			s.explainAll(q)
		default:
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case ch := <-changes:
			s.change(ctx, ch)
			for range len(changes) { // so that they are admitted for together
				s.change(ctx, <-changes)
			}
		case n := <-nodes:
			s.setNode(ctx, n)
		case c := <-controls:
			s.setControls(c)
		case q := <-asked:
			s.explainAll(q)
		case leads := <-lead:
			s.setLead(ctx, leads)
		case <-wake.C:
		case <-sweep.C:
			if !s.leads {
				s.standBy(ctx, time.Now())
			} else if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("sweep interrupted", "error", err)
			}
		}
		if s.leads {
			wake.Reset(s.admit(ctx))
		}
	}
}

// change takes one version of a record into account.
func (s *Scheduler) change(ctx context.Context, ch queue.Change) {
	if ch.Record.ID == "" { // it says only how far one is
		s.caughtUp(ch)
		return
	}
	m := s.pool.update(ch)
	s.caughtUp(ch)
	if !s.leads {
		s.keepUnburied(ch.Record, time.Now())
		return
	}
	if m.from != nil {
		s.moot = append(s.moot, m.from.Subject(ch.Record.ID))
	}
	s.raise(ch.Record)
	if e := s.pool.jobs[ch.Record.ID]; e != nil && (e.state == waiting || e.admitted && e.state != running) && s.pool.heldBy(e) != nil {
		s.retake = true // what it submitted before it waited; or it was handed back
	}
	s.end(ctx, ch.Record, m.admitted)
}

// caughtUp heeds that a change is the last of those that were there: now it is known what
// pauses of jobs keep.
func (s *Scheduler) caughtUp(ch queue.Change) {
	if ch.Last && !s.pool.caughtUp {
		s.pool.catchUp()
		s.retake = true
	}
}

// end does what is due once a job has ended.
func (s *Scheduler) end(ctx context.Context, r jobs.Record, admitted bool) {
	if !r.State.Ended() {
		return
	}
	if r.State == jobs.Dead {
		s.bury(ctx, r)
	}
	if admitted && (r.State == jobs.Cancelled || r.State == jobs.Failed) {
		s.moot = append(s.moot, queue.LineOf(r).Subject(r.ID))
	}
	s.unsettled = s.unsettled || s.pool.held[r.ID] != nil
	s.release(r)
}
