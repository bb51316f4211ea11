package scheduler

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// sighting is what a sweep sees of the messages.
type sighting struct {
	work     map[string]uint64   // by subject: how many lie in WORK
	stranded map[queue.Line]bool // lines in which a message lies that its consumer forgot
	held     map[jobs.ID]uint64  // claims that workers say they hold
}

// look lists the messages, and asks the consumers before and after what they know of.
func (s *Scheduler) look(ctx context.Context) (sighting, error) {
	before, err := s.known(ctx)
	if err != nil {
		return sighting{}, err
	}
	work, err := s.messages(ctx)
	if err != nil {
		return sighting{}, err
	}
	after, err := s.known(ctx)
	if err != nil {
		return sighting{}, err
	}
	return sighting{work, stranded(work, before, after), s.held()}, nil
}

// known is how many messages the consumers of all lines will still deliver, or wait to
// be acked. A line without a consumer is left out: the next one will know all.
func (s *Scheduler) known(ctx context.Context) (map[queue.Line]uint64, error) {
	known := map[queue.Line]uint64{}
	for name := range s.pool.lines {
		cons, err := s.client.JetStream().Consumer(ctx, queue.StreamWork, name.Consumer())
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look at the consumer of line %s: %w", name, err)
		}
		info := cons.CachedInfo()
		known[name] = info.NumPending + uint64(max(info.NumAckPending, 0))
	}
	return known, nil
}

// stranded are the lines with more messages than their consumers knew of before and
// after these were listed. nats-server 2.15.2 strands what it delivers while it shuts
// down: the delivery is lost, and after the start the message is neither pending nor
// waiting for its ack. Messages that come and go between the looks count, too: one
// sweep proves nothing.
func stranded(work map[string]uint64, before, after map[queue.Line]uint64) map[queue.Line]bool {
	there := map[queue.Line]uint64{}
	for subject, n := range work {
		if l, _, err := queue.ParseWork(subject); err == nil {
			there[l] += n
		}
	}
	lines := map[queue.Line]bool{}
	for l, n := range there {
		b, knew := before[l]
		a, knows := after[l]
		if knew && knows && n > max(b, a) {
			lines[l] = true
		}
	}
	return lines
}

// sweepStranded removes the message of a job whose line has stranded ones, if the job
// has not moved since the last sweep and nobody says that it runs. One that is admitted
// gets another; one that is not had that of an earlier attempt in its way, and will be.
// Which ones are stranded the server does not tell: a job that
// only waits in this line loses its place.
func (s *Scheduler) sweepStranded(ctx context.Context, e *entry, seen sighting) error {
	if !e.abandoned(seen) {
		return nil
	}
	if err := s.purge(ctx, e.subject()); err != nil || !e.admitted {
		return err
	}
	return s.sendAgain(ctx, e)
}
