package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// revisionHeader of a message in WORK holds the revision of the record that it
// admits.
const revisionHeader = "Lithify-Revision"

// Admission is the message that admits a job as st has it, signed if this client
// has a key.
func (c *Client) Admission(st Status) *nats.Msg {
	m := nats.NewMsg(LineOf(st.Record).Subject(st.ID))
	m.Header.Set(revisionHeader, strconv.FormatUint(st.Revision, 10))
	c.signAdmission(m, st)
	return m
}

// Admit puts messages made by Admission into WORK, as few batches as there can be,
// and tells how it went with each; IsQueued knows the one that is there already.
func (c *Client) Admit(ctx context.Context, msgs []*nats.Msg) []error { return c.work.each(ctx, msgs) }

// AdmittedRevision is the revision of the record that a job's message in WORK
// admits; 0 if there is no message, or an earlier version published it.
func (c *Client) AdmittedRevision(ctx context.Context, st Status) (uint64, error) {
	s, err := c.js.Stream(ctx, streamWork)
	if err != nil {
		return 0, err
	}
	m, err := s.GetLastMsgForSubject(ctx, LineOf(st.Record).Subject(st.ID))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read message of job %s: %w", st.ID, err)
	}
	return AdmittedBy(m.Header), nil
}

// AdmittedBy is the revision of the record that a message in WORK with these headers
// admits; 0 if an earlier version published it.
func AdmittedBy(h nats.Header) uint64 {
	revision, _ := strconv.ParseUint(h.Get(revisionHeader), 10, 64)
	return revision
}
