package queue

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lithify/lithify/jobs"
)

const (
	attemptHeader = "Lithify-Attempt"
	// maxLogPart leaves room below a server's max_payload of 256 KiB.
	maxLogPart = 128 << 10
)

// LogPart is a piece of what a job printed. Pieces of one attempt follow each other;
// each that was printed at once begins one, and only a long one is more than one.
type LogPart struct {
	Seq     uint64    `json:"seq"` // place in LOGS
	Time    time.Time `json:"time"`
	Attempt int       `json:"attempt"`
	Data    []byte    `json:"data"`
}

// Log adds to what st's job printed and does not wait. Like history it is for people:
// it is dropped while the server is away, and the oldest goes where it is too much. The
// future, nil if all was dropped, tells when it is stored.
func (c *Client) Log(st Status, data []byte) (last jetstream.PubAckFuture) {
	for part := range slices.Chunk(slices.Clone(data), maxLogPart) { // the client may have to send it again
		if !c.nc.IsConnected() {
			return last
		}
		m := nats.NewMsg(logSubject(st.ID))
		m.Header.Set(attemptHeader, strconv.Itoa(st.Attempt))
		m.Data = part
		f, err := c.js.PublishMsgAsync(m)
		if err != nil {
			c.log.Debug("log dropped", "id", st.ID, "error", err)
			return last
		}
		last = f
	}
	return last
}

// ReadLog gives what a job printed, then what it prints, and ends when it has ended.
// To resume, pass the Seq of the last part seen; 0 starts at the beginning.
func (c *Client) ReadLog(ctx context.Context, id jobs.ID, after uint64) iter.Seq2[LogPart, error] {
	return func(yield func(LogPart, error) bool) {
		_, err := c.untilEnd(ctx, id, place{streamLogs, logSubject(id), after}, giving(decodeLogPart, yield))
		if err != nil && !errors.Is(err, errLeft) {
			yield(LogPart{}, fmt.Errorf("read log of job %s: %w", id, err))
		}
	}
}

func decodeLogPart(m jetstream.Msg) (LogPart, error) {
	md, err := m.Metadata()
	if err != nil {
		return LogPart{}, fmt.Errorf("decode log: %w", err)
	}
	p := LogPart{Seq: md.Sequence.Stream, Time: md.Timestamp, Data: m.Data()}
	if p.Attempt, err = strconv.Atoi(m.Headers().Get(attemptHeader)); err != nil {
		return LogPart{}, fmt.Errorf("decode log: attempt: %w", err)
	}
	return p, nil
}
