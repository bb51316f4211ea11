package queue

import (
	"encoding"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lithify/lithify/jobs"
)

// Event is one line of a job's history.
type Event struct {
	Seq     uint64         `json:"seq,omitempty"` // place in EVENTS; 0 for the last event of Watch, which is read from the record
	Time    time.Time      `json:"time"`
	ID      jobs.ID        `json:"id"`
	Source  string         `json:"source,omitempty"` // worker, scheduler or submitter
	Attempt int            `json:"attempt,omitempty"`
	Phrase  string         `json:"phrase"`
	Attrs   map[string]any `json:"attrs,omitempty"`
	State   jobs.State     `json:"state,omitempty"` // on the last event of Watch: how the job ended
}

// Note adds an event to the history of st's job and does not wait. History is
// for people: an event is dropped while the server is away. The future, nil if
// it was dropped, tells when the event is stored.
func (c *Client) Note(st Status, e Event) jetstream.PubAckFuture {
	e.Time, e.ID, e.Attempt = time.Now().UTC(), st.ID, st.Attempt
	if e.Source == "" {
		e.Source = c.name
	}
	b, err := json.Marshal(e)
	if err != nil || !c.nc.IsConnected() {
		return nil
	}
	f, err := c.js.PublishAsync(eventSubject(st.ID), b)
	if err != nil {
		c.log.Debug("event dropped", "id", st.ID, "phrase", e.Phrase, "error", err)
		return nil
	}
	return f
}

// Attrs is slog's key-value list as the map of an [Event]. Values that redact
// themselves (slog.LogValuer) do so here too.
func Attrs(args ...any) map[string]any {
	r := slog.NewRecord(time.Time{}, 0, "", 0)
	r.Add(args...)
	m := make(map[string]any, r.NumAttrs())
	r.Attrs(func(a slog.Attr) bool { m[a.Key] = plain(a.Value.Resolve()); return true })
	return m
}

func plain(v slog.Value) any {
	switch v.Kind() {
	case slog.KindDuration:
		return v.Duration().String()
	case slog.KindGroup:
		m := map[string]any{}
		for _, a := range v.Group() {
			m[a.Key] = plain(a.Value.Resolve())
		}
		return m
	case slog.KindAny:
		switch x := v.Any().(type) {
		case error:
			return x.Error()
		case fmt.Stringer:
			return x.String()
		case json.Marshaler, encoding.TextMarshaler:
			return x
		}
		return fmt.Sprint(v.Any())
	}
	return v.Any()
}

func decodeEvent(m jetstream.Msg) (Event, error) {
	var e Event
	if err := json.Unmarshal(m.Data(), &e); err != nil {
		return Event{}, fmt.Errorf("decode event: %w", err)
	}
	md, err := m.Metadata()
	if err != nil {
		return Event{}, fmt.Errorf("decode event: %w", err)
	}
	e.Seq, e.State = md.Sequence.Stream, ""
	return e, nil
}
