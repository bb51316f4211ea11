package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"
)

// RevisionHeader of a message in WORK holds the revision of the record that it
// admits.
const RevisionHeader = "Lithify-Revision"

// AdmittedRevision is the revision of the record that a job's message in WORK
// admits; 0 if there is no message, or an earlier version published it.
func (c *Client) AdmittedRevision(ctx context.Context, st Status) (uint64, error) {
	s, err := c.js.Stream(ctx, streamWork)
	if err != nil {
		return 0, err
	}
	m, err := s.GetLastMsgForSubject(ctx, WorkSubject(st.Class, st.ID))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read message of job %s: %w", st.ID, err)
	}
	revision, _ := strconv.ParseUint(m.Header.Get(RevisionHeader), 10, 64)
	return revision, nil
}
