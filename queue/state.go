package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/lithify/lithify/jobs"
)

// Status is a job and its record as they were at Revision.
type Status struct {
	jobs.Record
	Job      jobs.Job `json:"job"`
	Revision uint64   `json:"revision"` // stream sequence of the record; that of a claim is its fencing token

	spec string // digest of the job as it is stored; empty where it was not read
}

// ErrUnreadable is a job or record that this version cannot read: it is damaged,
// or a later version wrote it.
var ErrUnreadable = errors.New("stored in a form that this version does not know")

// Get reads a job. An unknown one is errdefs.ErrNotFound, one that cannot be read
// is ErrUnreadable.
func (c *Client) Get(ctx context.Context, id jobs.ID) (Status, error) {
	if _, err := jobs.ParseID(string(id)); err != nil {
		return Status{}, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return c.GetAt(ctx, id, 0)
}

// GetAt is Get for one who has heard that the job's record has this revision or a
// later one. On a cluster any replica answers a read, and one that lags knows
// nothing of it yet: it is asked again. A replica that stays behind is
// errdefs.ErrUnavailable; one that then knows nothing of the job is errdefs.ErrNotFound,
// as somebody may have removed it.
func (c *Client) GetAt(ctx context.Context, id jobs.ID, revision uint64) (Status, error) {
	for wait := lagFirst; ; wait *= 2 {
		st, err := c.get(ctx, id)
		switch {
		case err != nil && !errdefs.IsNotFound(err), err == nil && st.Revision >= revision:
			return st, err
		case revision == 0 && wait > lagUnknown: // there is no such job
			return st, err
		case wait > lagLast && err != nil:
			return st, err
		case wait > lagLast:
			return Status{}, fmt.Errorf("job %s: revision %d is not there yet: %w", id, revision, errdefs.ErrUnavailable)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return Status{}, ctx.Err()
		}
	}
}

// The pauses before a replica is asked again: it lags by milliseconds. A job of which
// nothing was heard may just have been submitted, or not exist.
const (
	lagFirst   = 5 * time.Millisecond
	lagUnknown = 40 * time.Millisecond
	lagLast    = time.Second
)

func (c *Client) get(ctx context.Context, id jobs.ID) (Status, error) {
	msgs, err := c.last(ctx, streamState, specSubject(id), runSubject(id))
	if err != nil {
		return Status{}, fmt.Errorf("read job %s: %w", id, err)
	}
	return c.statusOf(id, msgs)
}

// statusOf finds a job among messages of STATE.
func (c *Client) statusOf(id jobs.ID, msgs map[string]*jetstream.RawStreamMsg) (st Status, err error) {
	spec, run := msgs[specSubject(id)], msgs[runSubject(id)]
	if spec == nil || run == nil {
		return st, fmt.Errorf("job %s: %w", id, errdefs.ErrNotFound)
	}
	st.Revision = run.Sequence
	if st.Record, err = jobs.DecodeRecord(run.Data); err == nil {
		st.Job, err = jobs.DecodeJob(spec.Data)
	}
	if err != nil {
		return Status{}, fmt.Errorf("read job %s: %w: %w", id, ErrUnreadable, err)
	}
	st.spec = digestOf(spec.Data)
	return c.believed(st), nil
}

// last reads the last message of each subject that has one, in one request. That
// a subject has none is certain only without an error.
func (c *Client) last(ctx context.Context, stream string, subjects ...string) (map[string]*jetstream.RawStreamMsg, error) {
	for try := 1; ; try++ {
		found, err := c.lastOnce(ctx, stream, subjects)
		if ctx.Err() != nil || try == readTries || !errors.Is(err, context.DeadlineExceeded) {
			return found, err
		}
	}
}

// A request or its answer is lost when the connection is: a read is made again.
const readTries = 3

func (c *Client) lastOnce(ctx context.Context, stream string, subjects []string) (map[string]*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if c.Account() != "" {
		return c.lastApart(ctx, stream, subjects)
	}
	seq, err := jetstreamext.GetLastMsgsFor(ctx, c.js, stream, subjects)
	if err != nil {
		return nil, err
	}
	out := make(map[string]*jetstream.RawStreamMsg, len(subjects))
	for m, err := range seq {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			break
		}
		if err != nil {
			return nil, err
		}
		out[m.Subject] = m
	}
	// The sequence ends at a timeout as it does after the last answer.
	return out, ctx.Err()
}

// Apply moves a job along one edge: the pure transition, then a compare-and-set
// on st.Revision. It returns the job as it is now. If the record has moved on the
// error is errdefs.ErrConflict and nothing was written; if the state has no such
// edge it is a *jobs.EdgeError. After any other error the outcome is unknown.
func (c *Client) Apply(ctx context.Context, st Status, e jobs.Edge) (Status, error) {
	e, err := c.signedEdge(st.ID, e)
	if err != nil {
		return st, err
	}
	next, err := jobs.Next(st.Record, e)
	if err != nil {
		return st, err
	}
	b, err := json.Marshal(next)
	if err != nil {
		return st, err
	}
	seq, err := c.state.do(ctx, recordMsg(st.ID, b, st.Revision))
	if err != nil {
		return st, refused(fmt.Errorf("write record of job %s: %w", st.ID, err))
	}
	st.Record, st.Revision = next, seq
	return st, nil
}

// recordMsg writes a record over the version that is the last so far.
func recordMsg(id jobs.ID, record []byte, last uint64) *nats.Msg {
	m := nats.NewMsg(runSubject(id))
	m.Data = record
	m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(last, 10))
	return m
}

// open writes spec and record of a job. The record comes last, so that whoever sees it
// finds the spec. They are one atomic batch or, for a new job that comes alone, two writes.
func (c *Client) open(ctx context.Context, prev Status, e jobs.Open) (Status, error) {
	next, err := jobs.Next(prev.Record, e)
	if err != nil {
		return prev, err
	}
	spec, err := json.Marshal(e.Job)
	if err != nil {
		return prev, err
	}
	run, err := json.Marshal(next)
	if err != nil {
		return prev, err
	}
	m := nats.NewMsg(specSubject(e.Job.ID))
	m.Data = spec
	write := c.state.do
	if prev.Revision == 0 {
		write = c.state.doFirst
	}
	seq, err := write(ctx, m, recordMsg(e.Job.ID, run, prev.Revision))
	if err != nil {
		return prev, refused(fmt.Errorf("write job %s: %w", e.Job.ID, err))
	}
	return Status{Record: next, Job: e.Job, Revision: seq}, nil
}

// refused marks what trying again does not change: the server's refusal of a
// compare-and-set (errdefs.ErrConflict), and a message that is larger than the
// server takes (errdefs.ErrOutOfRange). It says what silence may mean.
func refused(err error) error {
	switch apiCode(err) {
	case codeWrongSequence, codeWrongSequenceReplicated:
		return fmt.Errorf("%w: %w", errdefs.ErrConflict, err)
	case codeBatchIncomplete:
		return fmt.Errorf("%w: %w", errUnstored, err)
	}
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("%w: %w", errdefs.ErrOutOfRange, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", errUnstored, err)
	}
	return err
}

// errUnstored: nats-server 2.15.2 does not answer a write that its disk has no room
// for, and after the first one stores nothing more in that stream until it is restarted.
var errUnstored = fmt.Errorf("the server does not say that this is stored: if that goes on, look at its log; "+
	"one whose disk was full has to be restarted when there is room: %w", errdefs.ErrUnavailable)

// IsQueued reports whether a publish to WORK was refused because the job's
// message is there already.
func IsQueued(err error) bool { return apiCode(err) == codeSubjectFull }

// Holds reports whether the claim st is still the last word on its job.
func (c *Client) Holds(ctx context.Context, st Status) (bool, error) {
	msgs, err := c.last(ctx, streamState, runSubject(st.ID))
	if err != nil {
		return false, fmt.Errorf("check claim of job %s: %w", st.ID, err)
	}
	m := msgs[runSubject(st.ID)]
	return m == nil || m.Sequence <= st.Revision, nil // a replica may lag, so an older one proves nothing
}

// Hint calls f when somebody writes the job's record, refused or not, until
// stop. Hints can be lost: f looks, and so does a timer.
func (c *Client) Hint(id jobs.ID, f func()) (stop func(), err error) {
	sub, err := c.nc.Subscribe(c.heardAt(runSubject(id)), func(*nats.Msg) { f() })
	if err != nil {
		return nil, fmt.Errorf("listen to job %s: %w", id, err)
	}
	return func() { sub.Unsubscribe() }, nil
}
