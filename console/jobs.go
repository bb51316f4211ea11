package console

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"strconv"
	"time"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/jobs/all"
	"github.com/lithify/lithify/queue"
)

// Request asks for a job.
type Request struct {
	Kind string          `json:"kind"`
	Args json.RawMessage `json:"args"` // of the kind, as jobs get shows them
	// Key makes asking again safe: requests with one key, of one token's subject, are one job.
	Key      string        `json:"key,omitempty"`
	Priority jobs.Priority `json:"priority,omitempty"` // default bulk
	// Timeout gives the job up, in seconds from when it may run; default jobs.DefaultTimeout.
	Timeout   int64     `json:"timeout,omitempty"`
	NotBefore time.Time `json:"not_before,omitzero"`
}

const (
	maxTimeout = 30 * 24 * time.Hour
	maxDelay   = 365 * 24 * time.Hour
)

func (s *Server) submit(w http.ResponseWriter, r *http.Request, id identity) error {
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	var req Request
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&req); err != nil {
		return fmt.Errorf("request: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	switch {
	case req.Timeout < 0 || req.Timeout > int64(maxTimeout/time.Second):
		return fmt.Errorf("timeout %d s is not between 0 and %v: %w", req.Timeout, maxTimeout, errdefs.ErrInvalidArgument)
	case req.NotBefore.After(time.Now().Add(maxDelay)):
		return fmt.Errorf("not_before %v is more than %v ahead: %w", req.NotBefore, maxDelay, errdefs.ErrInvalidArgument)
	}
	args, err := all.Decode(req.Kind, req.Args)
	if err != nil {
		return err
	}
	o := jobs.Options{Priority: req.Priority, Timeout: time.Duration(req.Timeout) * time.Second, NotBefore: req.NotBefore}
	if req.Key != "" {
		o.IdempotencyKey = fmt.Sprintf("token %q %q", id.name, req.Key) // nobody can take another's
	}
	if o, err = id.submission(args, o); err != nil {
		return err
	}
	job, err := jobs.New(args, o)
	if err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	st, err := s.client.Submit(r.Context(), job)
	if err != nil {
		return err
	}
	s.log.InfoContext(r.Context(), "job accepted", "id", st.ID, "submitter", id.name)
	w.Header().Set("Location", "/v1/jobs/"+string(st.ID))
	s.answer(w, http.StatusAccepted, st)
	return nil
}

func (s *Server) get(w http.ResponseWriter, _ *http.Request, st queue.Status) error {
	s.answer(w, http.StatusOK, st)
	return nil
}

func (s *Server) cancel(w http.ResponseWriter, r *http.Request, st queue.Status) error {
	st, err := s.client.Cancel(r.Context(), st.ID, "cancelled through the API")
	if err != nil {
		return err
	}
	s.answer(w, http.StatusOK, st)
	return nil
}

func (s *Server) events(w http.ResponseWriter, r *http.Request, st queue.Status) error {
	after, err := resumed(r)
	if err != nil {
		return err
	}
	watch := func(ctx context.Context) iter.Seq2[queue.Event, error] { return s.client.Watch(ctx, st.ID, after) }
	return stream(s, w, r, watch, func(e queue.Event) uint64 { return e.Seq })
}

func (s *Server) logs(w http.ResponseWriter, r *http.Request, st queue.Status) error {
	after, err := resumed(r)
	if err != nil {
		return err
	}
	read := func(ctx context.Context) iter.Seq2[queue.LogPart, error] { return s.client.ReadLog(ctx, st.ID, after) }
	return stream(s, w, r, read, func(p queue.LogPart) uint64 { return p.Seq })
}

// resumed is where a reader goes on that was interrupted.
func resumed(r *http.Request) (uint64, error) {
	last := r.Header.Get("Last-Event-ID")
	if last == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(last, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("Last-Event-ID %q is no number: %w", last, errdefs.ErrInvalidArgument)
	}
	return n, nil
}
