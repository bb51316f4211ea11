package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lithify/lithify/jobs"
)

// soFarTimeout bounds a reader of what is there: what it waits for may have been removed.
const soFarTimeout = 10 * time.Second

// History gives the events of a job that are there now, behind one that was read (its Seq;
// 0: all), the last limit of them. Watch also gives those that come.
func (c *Client) History(ctx context.Context, id jobs.ID, after uint64, limit int) ([]Event, error) {
	var found []Event
	err := c.soFar(ctx, place{streamEvents, eventSubject(id), after}, func(m jetstream.Msg) error {
		e, err := decodeEvent(m)
		if found = append(found, e); len(found) >= 2*limit {
			found = append(found[:0], found[len(found)-limit:]...)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read history of job %s: %w", id, err)
	}
	return found[max(0, len(found)-limit):], nil
}

// Printed gives what a job has printed so far: the last pieces, of about limit bytes. ReadLog
// also gives what it prints from then on.
func (c *Client) Printed(ctx context.Context, id jobs.ID, limit int) ([]LogPart, error) {
	var found []LogPart
	size := 0
	err := c.soFar(ctx, place{streamLogs, logSubject(id), 0}, func(m jetstream.Msg) error {
		p, err := decodeLogPart(m)
		found, size = append(found, p), size+len(p.Data)
		for size-len(found[0].Data) >= limit {
			size -= len(found[0].Data)
			found[0].Data, found = nil, found[1:]
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read log of job %s: %w", id, err)
	}
	return found, nil
}

// soFar calls f with what lies behind a place and is there when it begins.
func (c *Client) soFar(ctx context.Context, p place, f func(jetstream.Msg) error) error {
	msgs, err := c.last(ctx, p.stream, p.subject)
	if err != nil {
		return err
	}
	end := msgs[p.subject]
	if end == nil || end.Sequence <= p.after {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, soFarTimeout)
	defer cancel()
	for m, err := range c.Follow(ctx, p.stream, p.consumer()) {
		if err != nil {
			return err
		}
		md, err := m.Metadata()
		if err != nil {
			return err
		}
		if err := f(m); err != nil {
			return err
		}
		if md.Sequence.Stream >= end.Sequence || md.NumPending == 0 {
			return nil
		}
	}
	return nil
}
