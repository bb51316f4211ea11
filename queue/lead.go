package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// leaseTTL is the longest that a dead leader keeps the others waiting.
	leaseTTL = 3 * time.Second
	// leaseRenewal lets one renewal be lost.
	leaseRenewal = leaseTTL / 3
	// leaseCall bounds one request about the lease.
	leaseCall = 2 * time.Second
)

// Campaign has this scheduler stand for leader until ctx is done, then gives the
// lead up, if it has it. It calls tell, from one goroutine, as soon as it knows
// whether this scheduler leads, and whenever that changes.
//
// Two can lead at a time, for example while one of them is cut off: the lease saves
// work and proves nothing.
func (c *Client) Campaign(ctx context.Context, me Scheduler, replicas int, tell func(leads bool)) {
	l := &lease{c: c, me: me, replicas: replicas}
	changed := make(chan struct{}, 1)
	var watching sync.WaitGroup
	watching.Go(func() { l.watch(ctx, changed) })
	defer watching.Wait()
	tick := time.NewTicker(leaseRenewal)
	defer tick.Stop()
	led, told := false, false
	for ctx.Err() == nil {
		err := l.hold(ctx)
		if err == nil && (l.leads != led || !told) {
			led, told = l.leads, true
			tell(led)
		}
		if err = errors.Join(err, l.announce(ctx)); err != nil && ctx.Err() == nil {
			c.log.Debug("scheduler's lease not settled", "error", err)
		}
		l.rest(ctx, tick.C, changed)
	}
	l.leave(context.WithoutCancel(ctx))
}

// lease is this scheduler's view of who leads.
type lease struct {
	c         *Client
	me        Scheduler
	replicas  int
	leads     bool
	revision  uint64 // of the lease, as this scheduler last wrote it
	announced time.Time
}

// rest waits for the next renewal or, for one that stands by, for a change.
func (l *lease) rest(ctx context.Context, tick <-chan time.Time, changed <-chan struct{}) {
	if l.leads {
		changed = nil // its own renewals
	}
	select {
	case <-ctx.Done():
	case <-tick:
	case <-changed:
	}
}

// hold renews the lease or takes a free one. An error leaves it open who leads:
// whoever did goes on, as it can do nothing while the server is away. It outlives
// ctx: a renewal of which the answer is not heard cannot be given up.
func (l *lease) hold(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseCall)
	defer cancel()
	if l.leads {
		if err := l.write(ctx, l.revision); !errdefs.IsConflict(err) && !errors.Is(err, jetstream.ErrNoStreamResponse) {
			return err
		}
	}
	subject := schedulerSubject(leaseKey)
	msgs, err := l.c.last(ctx, "KV_"+bucketSchedulers, subject)
	if err != nil {
		l.announced = time.Time{} // the list is lost with a single server, as the lease is
		return errors.Join(err, l.c.setupSchedulers(ctx, l.replicas))
	}
	var revision uint64
	if m := msgs[subject]; m != nil {
		if holder := string(m.Data); holder != "" && holder != l.me.Name {
			l.leads = false
			return nil
		}
		revision = m.Sequence // free, or our own, written with an answer that was lost
	}
	if err = l.write(ctx, revision); errdefs.IsConflict(err) {
		l.leads = false // another was first, or a replica lagged
		return nil
	}
	return err
}

func (l *lease) write(ctx context.Context, revision uint64) error {
	ack, err := l.c.js.Publish(ctx, schedulerSubject(leaseKey), []byte(l.me.Name),
		jetstream.WithExpectLastSequencePerSubject(revision), jetstream.WithMsgTTL(leaseTTL))
	if err != nil {
		return refused(fmt.Errorf("write the scheduler's lease: %w", err))
	}
	l.leads, l.revision = true, ack.Sequence
	return nil
}

// announce keeps this scheduler on the list.
func (l *lease) announce(ctx context.Context) error {
	if time.Since(l.announced) < NodeRenewal {
		return nil
	}
	b, err := json.Marshal(l.me)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, leaseCall)
	defer cancel()
	if _, err := l.c.js.Publish(ctx, schedulerSubject(schedulerPrefix+l.me.Name), b, jetstream.WithMsgTTL(nodeTTL)); err != nil {
		return fmt.Errorf("announce scheduler %s: %w", l.me.Name, err)
	}
	l.announced = time.Now()
	return nil
}

// watch says that somebody wrote the lease, or that it ran out.
func (l *lease) watch(ctx context.Context, changed chan<- struct{}) {
	for ctx.Err() == nil {
		for _, err := range l.c.Follow(ctx, "KV_"+bucketSchedulers, jetstream.OrderedConsumerConfig{
			FilterSubjects: []string{schedulerSubject(leaseKey)}, DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy}) {
			if err != nil {
				break
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		}
		l.c.pause(ctx)
	}
}

// leave frees the lease, so that the next takes it at once, and takes this
// scheduler off the list.
func (l *lease) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leaseCall)
	defer cancel()
	kv, err := l.c.js.KeyValue(ctx, bucketSchedulers)
	if err == nil {
		if l.leads {
			err = kv.Purge(ctx, leaseKey, jetstream.LastRevision(l.revision), jetstream.PurgeTTL(nodeTTL))
		}
		err = errors.Join(err, kv.Purge(ctx, schedulerPrefix+l.me.Name, jetstream.PurgeTTL(nodeTTL)))
	}
	if err != nil {
		l.c.log.Debug("scheduler's lease not given up", "error", err) // it runs out
	}
}
