package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/lithify/lithify/jobs"
)

// Transfer is what Export and Import want to know; the zero value works.
type Transfer struct {
	Version  string         // of the program
	Replicas int            // of the streams that Import makes; default 1
	Tell     func(Contents) // called now and then with how far it is
}

func (t Transfer) tell(c Contents) {
	if t.Tell != nil {
		t.Tell(c)
	}
}

// exportBatch lines are written at once, and their jobs read in one request.
const exportBatch = groupMessages / 2

// placeHeader of an archived event is where it lay in EVENTS.
const placeHeader = "Lithify-Place"

// Export writes the pool as an archive: jobs with their histories, dead letters,
// timetables and controls. Jobs that run are handed back in it, which costs them no
// attempt. The pool stays as it is.
//
// A scheduler or worker that is there is errdefs.ErrFailedPrecondition. A pool whose
// jobs were changed meanwhile is errdefs.ErrUnavailable, and the archive has no end.
func (c *Client) Export(ctx context.Context, w io.Writer, t Transfer) (Contents, error) {
	before, err := c.stateNow(ctx)
	if err != nil {
		return Contents{}, fmt.Errorf("export: %w", err)
	}
	ctx, done, err := c.alone(ctx, t.Version, before.replicas)
	if err != nil {
		return Contents{}, fmt.Errorf("export: %w", err)
	}
	defer done()
	a, err := newArchiveWriter(w, t.Version)
	if err == nil {
		err = c.export(ctx, a, before, t)
	}
	if err == nil {
		err = a.end()
	}
	if err != nil {
		return Contents{}, fmt.Errorf("export: %w", cause(ctx, err))
	}
	return a.found, nil
}

func (c *Client) export(ctx context.Context, a *archiveWriter, before stateNow, t Transfer) error {
	workers, err := c.Workers(ctx)
	if err != nil {
		return err
	}
	if len(workers) > 0 {
		return fmt.Errorf("stop the pool's workers first, %d are on the list (one that has died counts for %v): %s: %w",
			len(workers), nodeTTL, workers[0].Name, errdefs.ErrFailedPrecondition)
	}
	for _, part := range []struct {
		stream, subject string
		lines           func(context.Context, *archiveWriter, []*jetstream.RawStreamMsg) error
	}{
		{streamControls, subjectControls, exportEach},
		{streamState, RunFilter, c.exportJobs},
		{streamEvents, "ev.>", exportEvents},
		{streamDead, "dlq.>", exportEach},
		{streamSched, schedPrefix + "*", c.exportCrons},
	} {
		for msgs, err := range c.batches(ctx, part.stream, part.subject) {
			if err == nil {
				err = part.lines(ctx, a, msgs)
			}
			if err != nil {
				return err
			}
			t.tell(a.found)
		}
	}
	after, err := c.stateNow(ctx)
	if err == nil && after != before {
		err = fmt.Errorf("somebody changed the pool's jobs meanwhile, do it again: %w", errdefs.ErrUnavailable)
	}
	return err
}

// stateNow is how STATE is: its numbers change with every job.
type stateNow struct {
	last, count uint64
	replicas    int
}

func (c *Client) stateNow(ctx context.Context) (stateNow, error) {
	s, err := c.js.Stream(ctx, streamState)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return stateNow{}, fmt.Errorf("there is no pool: %w: %w", errdefs.ErrNotFound, err)
	}
	if err != nil {
		return stateNow{}, err
	}
	i := s.CachedInfo()
	return stateNow{i.State.LastSeq, i.State.Msgs, i.Config.Replicas}, nil
}

// batches reads the messages of a stream under a subject in their order, until there
// are no more. It reads as a consumer does: a direct read counts what is behind it,
// in a time that grows with the stream.
func (c *Client) batches(ctx context.Context, stream, subject string) iter.Seq2[[]*jetstream.RawStreamMsg, error] {
	return func(yield func([]*jetstream.RawStreamMsg, error) bool) {
		if first, err := c.batch(ctx, stream, subject, 1, 1); err != nil || len(first) == 0 {
			if err != nil {
				yield(nil, err)
			}
			return
		}
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		idle := time.AfterFunc(apiTimeout, func() { cancel(fmt.Errorf("no answer in %v: %w", apiTimeout, errdefs.ErrUnavailable)) })
		defer idle.Stop()
		var msgs []*jetstream.RawStreamMsg
		for m, err := range c.Follow(ctx, stream, jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject}, DeliverPolicy: jetstream.DeliverAllPolicy}) {
			var md *jetstream.MsgMetadata
			if err == nil {
				md, err = m.Metadata()
			}
			if err != nil {
				yield(nil, fmt.Errorf("read %s: %w", stream, cause(ctx, err)))
				return
			}
			idle.Stop()
			msgs = append(msgs, &jetstream.RawStreamMsg{Subject: m.Subject(), Header: m.Headers(), Data: m.Data(), Sequence: md.Sequence.Stream, Time: md.Timestamp})
			if md.NumPending == 0 || len(msgs) == exportBatch {
				if !yield(msgs, nil) || md.NumPending == 0 {
					return
				}
				msgs = nil
			}
			idle.Reset(apiTimeout)
		}
	}
}

// batch reads up to n messages from a sequence on; none if there are no more.
func (c *Client) batch(ctx context.Context, stream, subject string, n int, from uint64) (msgs []*jetstream.RawStreamMsg, err error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	found, err := jetstreamext.GetBatch(ctx, c.js, stream, n, jetstreamext.GetBatchSubject(subject), jetstreamext.GetBatchSeq(from))
	if err != nil {
		return nil, err
	}
	for m, err := range found {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			break
		}
		if err != nil {
			return nil, err
		}
		msgs = append(msgs, m)
	}
	return msgs, ctx.Err() // the sequence ends at a timeout as it does after the last answer
}

func exportEach(_ context.Context, a *archiveWriter, msgs []*jetstream.RawStreamMsg) error {
	for _, m := range msgs {
		if err := a.add(archiveLine{Messages: []archived{archive(m)}}); err != nil {
			return err
		}
	}
	return nil
}

func exportEvents(ctx context.Context, a *archiveWriter, msgs []*jetstream.RawStreamMsg) error {
	for _, m := range msgs {
		if m.Header == nil {
			m.Header = nats.Header{}
		}
		m.Header.Set(placeHeader, strconv.FormatUint(m.Sequence, 10))
	}
	return exportEach(ctx, a, msgs)
}

// exportJobs writes jobs with their records. They are not read as List reads them,
// which gives a job whose result nobody signed as one that failed.
func (c *Client) exportJobs(ctx context.Context, a *archiveWriter, runs []*jetstream.RawStreamMsg) error {
	subjects := make([]string, len(runs))
	for i, m := range runs {
		id, err := runID(m.Subject)
		if err != nil {
			return err
		}
		subjects[i] = specSubject(id)
	}
	specs, err := c.last(ctx, streamState, subjects...)
	if err != nil {
		return err
	}
	for i, m := range runs {
		spec := specs[subjects[i]]
		if spec == nil {
			c.log.Warn("record without its job is left out", "subject", m.Subject)
			continue
		}
		run := archive(m)
		if run.Data, err = c.handedBack(ctx, a, m); err != nil {
			return err
		}
		if err := a.add(archiveLine{Messages: []archived{archive(spec), run}}); err != nil {
			return err
		}
	}
	return nil
}

// handedBack is the record as it is archived: the claim of a job that runs is a
// sequence of this pool, and would hold nowhere else. All others keep their bytes,
// which a signature may cover.
func (c *Client) handedBack(ctx context.Context, a *archiveWriter, m *jetstream.RawStreamMsg) ([]byte, error) {
	ch, err := decodeChange(m.Subject, m.Data, m.Sequence)
	if err != nil {
		c.log.Warn("unreadable record is archived as it is", "error", err)
		return m.Data, nil
	}
	switch ch.Record.State {
	case jobs.Done:
		if ch.Record.Signer != "" {
			a.signers[ch.Record.Signer] = true
		}
	case jobs.Running:
		return handBack(ch)
	case jobs.Retry:
		claimed, err := c.pardoned(ctx, ch)
		if err != nil {
			return nil, err
		}
		if claimed.Record.State == jobs.Running {
			return handBack(claimed)
		}
	}
	return m.Data, nil
}

func handBack(ch Change) ([]byte, error) {
	r, err := jobs.Next(ch.Record, jobs.HandBack{Claim: ch.Revision, At: time.Now().UTC()})
	if err != nil {
		return nil, err
	}
	r.Message = 0
	return json.Marshal(r)
}

// pardoned is a doubted job as the worker that claims it next would: those that fell
// silent with it are known of here only, and may have been stopped for the export.
func (c *Client) pardoned(ctx context.Context, ch Change) (Change, error) {
	if !ch.Record.Doubted() {
		return ch, nil
	}
	var names, back []string
	for _, s := range ch.Record.Silent {
		names = append(names, s.Worker)
	}
	nodes, err := c.Named(ctx, names...)
	if err != nil {
		return ch, err
	}
	for _, s := range ch.Record.Silent {
		if nodes[s.Worker].Survived(s, ch.Record.ID) {
			back = append(back, s.Worker)
		}
	}
	ch.Record, err = jobs.Next(ch.Record, jobs.Claim{Back: back, At: time.Now().UTC()})
	return ch, err
}

// exportCrons writes timetables, and behind each the fire that no scheduler has
// submitted, or the time of the next if that is known: it may pass before the import.
// The server tells it with a fire of its own: of a timetable that never fired, or last by
// hand, it is not known.
func (c *Client) exportCrons(ctx context.Context, a *archiveWriter, crons []*jetstream.RawStreamMsg) error {
	subjects := make([]string, len(crons))
	for i, m := range crons {
		subjects[i] = firePrefix + strings.TrimPrefix(m.Subject, schedPrefix)
	}
	fires, err := c.last(ctx, streamSched, subjects...)
	if err != nil {
		return err
	}
	for i, m := range crons {
		if err := a.add(archiveLine{Messages: []archived{archive(m)}}); err != nil {
			return err
		}
		fire := fires[subjects[i]]
		if fire == nil {
			continue
		}
		pending, err := c.pendingFire(ctx, fire)
		if err != nil {
			return err
		}
		l := archiveLine{Messages: []archived{{Subject: fire.Subject, Data: m.Data}}, Due: fire.Time}
		if pending {
			l.Messages[0].Data = fire.Data
		} else if l.Due, err = time.Parse(time.RFC3339Nano, fire.Header.Get("Nats-Schedule-Next")); err != nil {
			continue
		}
		if err := a.add(l); err != nil {
			return err
		}
	}
	return nil
}

// pendingFire reports whether a fire waits for a scheduler to submit its job.
func (c *Client) pendingFire(ctx context.Context, fire *jetstream.RawStreamMsg) (bool, error) {
	cons, err := c.js.Consumer(ctx, streamSched, fireConsumer)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if fire.Sequence <= cons.CachedInfo().AckFloor.Stream {
		return false, nil
	}
	j, err := fireJob(fire.Data, fire.Time)
	if err != nil {
		return false, nil // a scheduler drops it, too
	}
	_, err = c.Get(ctx, j.ID)
	if errdefs.IsNotFound(err) {
		return true, nil
	}
	return false, err
}
