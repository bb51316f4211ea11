package scheduler

import (
	"context"
	"fmt"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// sighting is what a sweep sees of the messages.
type sighting struct {
	work      map[string]uint64   // by subject: how many lie in WORK
	consumers map[string]uint64   // by name: how many messages they know of
	stranded  map[queue.Line]bool // lines in which a message lies that its consumer forgot
	held      map[jobs.ID]uint64  // claims that workers say they hold
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
	return sighting{work, after, stranded(work, before, after), s.held()}, nil
}

// known is how many messages the consumers, by name, will still deliver, or wait to be
// acked. All are asked at once: there may be hundreds. One that is not there is left
// out: the next one will know all.
func (s *Scheduler) known(ctx context.Context) (map[string]uint64, error) {
	st, err := s.client.JetStream().Stream(ctx, queue.StreamWork)
	if err != nil {
		return nil, fmt.Errorf("look at the consumers: %w", err)
	}
	list, known := st.ListConsumers(ctx), map[string]uint64{}
	for info := range list.Info() {
		known[info.Name] = info.NumPending + uint64(max(info.NumAckPending, 0))
	}
	if err := list.Err(); err != nil {
		return nil, fmt.Errorf("look at the consumers: %w", err)
	}
	return known, nil
}

// stranded are the lines with more messages than their consumers knew of before and
// after these were listed. nats-server 2.15.2 strands what it delivers while it shuts
// down: the delivery is lost, and after the start the message is neither pending nor
// waiting for its ack. Messages that come and go between the looks count, too: one
// sweep proves nothing.
func stranded(work map[string]uint64, before, after map[string]uint64) map[queue.Line]bool {
	there := map[queue.Line]uint64{}
	for subject, n := range work {
		if l, _, err := queue.ParseWork(subject); err == nil {
			there[l] += n
		}
	}
	lines := map[queue.Line]bool{}
	for l, n := range there {
		b, knew := before[l.Consumer()]
		a, knows := after[l.Consumer()]
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
