package console

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/console/webhook"
	"github.com/lithify/lithify/jobs"
)

// Accepted says what came of a post.
type Accepted struct {
	Jobs    []jobs.ID `json:"jobs"`
	Ignored string    `json:"ignored,omitempty"` // why there are none
}

// hook answers a Git host once the jobs of its push are stored.
func (s *Server) hook(w http.ResponseWriter, r *http.Request) {
	a, err := s.push(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.answer(w, http.StatusAccepted, a)
}

func (s *Server) push(w http.ResponseWriter, r *http.Request) (a Accepted, err error) {
	h, ok := s.hooks[r.PathValue("name")]
	if !ok {
		return a, fmt.Errorf("hook %q: %w", r.PathValue("name"), errdefs.ErrNotFound)
	}
	body, err := readBody(w, r)
	if err != nil {
		return a, err
	}
	p, err := h.Host.Read(r.Header, body, h.secrets, time.Now())
	if errors.Is(err, webhook.ErrIgnored) {
		return Accepted{Jobs: []jobs.ID{}, Ignored: err.Error()}, nil
	}
	if err != nil {
		return a, err
	}
	a.Jobs = []jobs.ID{}
	for i, rule := range h.Rules {
		if !matches(rule.Repository, p.Repository) || !matches(rule.Ref, p.Ref) {
			continue
		}
		job, err := rule.job(p, fmt.Sprintf("hook %s %d %s", h.Name, i, p.ID))
		if err != nil {
			return a, fmt.Errorf("rule %d: %w", i+1, err)
		}
		st, err := s.client.Submit(r.Context(), job)
		if err != nil {
			return a, err
		}
		a.Jobs = append(a.Jobs, st.ID)
		s.log.InfoContext(r.Context(), "push accepted", "hook", h.Name, "repository", p.Repository, "ref", p.Ref, "commit", p.Commit, "id", st.ID)
	}
	if len(a.Jobs) == 0 {
		a.Ignored = "no rule matches"
	}
	return a, nil
}

// readBody takes no longer than it should.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	// Where a connection knows no deadlines the bound of its size is left.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("read body: %w", err)
	}
	return b, nil
}
