package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/jobs"
)

// JobPause keeps one job from going on: neither it is started, nor what it waits for, if
// nobody else asks for that. What runs goes on. The deadlines of what is kept are moved by as
// long as the pause lasted. It is gone once its job has ended.
//
// It is no [Selector]: a scheduler of an earlier version would take one that names only a job
// for the whole pool.
type JobPause struct {
	Job     jobs.ID   `json:"job"`
	By      string    `json:"by,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Since   time.Time `json:"since"`
	Resumed time.Time `json:"resumed,omitzero"` // it ends as soon as the scheduler has given the time back
}

func (x JobPause) is(o JobPause) bool {
	return x.Job == o.Job && x.Since.Equal(o.Since) && x.Resumed.Equal(o.Resumed)
}

const (
	// maxPausesSize bounds what is written down of all pauses of jobs, in bytes, those that have
	// been ended and are to go next included: with all else that was decided it is one message,
	// of which the server takes 256 KiB. It is more than 500 pauses with short reasons.
	maxPausesSize  = 128 << 10
	maxPauseReason = 400 // bytes
)

// fit reports whether there is room for pauses, and for the end of each.
func fit(pauses []JobPause) (bool, error) {
	pauses = slices.Clone(pauses)
	for i := range pauses {
		pauses[i].Resumed = pauses[i].Since
	}
	b, err := json.Marshal(pauses)
	return len(b) <= maxPausesSize, err
}

// checkReason refuses what a page or a terminal would not show as it is.
func checkReason(reason string) error {
	switch {
	case len(reason) > maxPauseReason:
		return fmt.Errorf("a reason of %d bytes is too long (the limit is %d): %w", len(reason), maxPauseReason, errdefs.ErrInvalidArgument)
	case !utf8.ValidString(reason) || strings.ContainsFunc(reason, unicode.IsControl):
		return fmt.Errorf("reason %q: it is to be one line of text, without control characters: %w", reason, errdefs.ErrInvalidArgument)
	}
	return nil
}

// PausedJob is the pause of a job, if it has one that nobody has ended.
func (c Controls) PausedJob(id jobs.ID) (JobPause, bool) {
	i := slices.IndexFunc(c.Jobs, func(x JobPause) bool { return x.Job == id && x.Resumed.IsZero() })
	if i < 0 {
		return JobPause{}, false
	}
	return c.Jobs[i], true
}

// PauseJob pauses a job. Of one that is paused already it gives the pause as it is. A job that
// has ended is errdefs.ErrFailedPrecondition.
func (c *Client) PauseJob(ctx context.Context, id jobs.ID, by, reason string) (JobPause, error) {
	if err := checkReason(reason); err != nil {
		return JobPause{}, fmt.Errorf("pause job %s: %w", id, err)
	}
	st, err := c.Get(ctx, id)
	if err != nil {
		return JobPause{}, fmt.Errorf("pause: %w", err)
	}
	if st.State.Ended() {
		return JobPause{}, fmt.Errorf("pause: job %s is %s: %w", id, st.State, errdefs.ErrFailedPrecondition)
	}
	x := JobPause{Job: id, By: strings.ToValidUTF8(by[:min(len(by), maxPauseReason)], ""), Reason: reason, Since: time.Now().UTC()}
	err = c.Control(ctx, func(ctl *Controls) error {
		if paused, ok := ctl.PausedJob(id); ok {
			x = paused
			return errAsIs
		}
		ctl.Jobs = append(ctl.Jobs, x)
		ok, err := fit(ctl.Jobs)
		if err == nil && !ok {
			err = fmt.Errorf("pause job %s: %d jobs are paused, and there is no room for another: resume some, or pause a kind or a tenant: %w", id, len(ctl.Jobs)-1, errdefs.ErrResourceExhausted)
		}
		return err
	})
	switch {
	case errors.Is(err, errAsIs):
		return x, nil
	case err == nil:
		c.Note(st, Event{Phrase: "paused", Attrs: map[string]any{"by": x.By, "reason": reason}})
	}
	return x, err
}

// errAsIs is for a change that changes nothing.
var errAsIs = errors.New("it is so already")

// ResumeJob ends the pause of a job. Of one that is not paused it is
// errdefs.ErrFailedPrecondition.
func (c *Client) ResumeJob(ctx context.Context, id jobs.ID, by string) error {
	st, err := c.Get(ctx, id)
	if err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	err = c.Control(ctx, func(ctl *Controls) error {
		i := slices.IndexFunc(ctl.Jobs, func(x JobPause) bool { return x.Job == id && x.Resumed.IsZero() })
		if i < 0 {
			return fmt.Errorf("resume: job %s is %s, and not paused: %w", id, st.State, errdefs.ErrFailedPrecondition)
		}
		ctl.Jobs[i].Resumed = time.Now().UTC()
		return nil
	})
	if err == nil {
		c.Note(st, Event{Phrase: "resumed", Attrs: map[string]any{"by": by}})
	}
	return err
}

// DropPauses takes pauses of jobs out of what is decided, those that are as they were seen.
func (c *Client) DropPauses(ctx context.Context, over []JobPause) error {
	err := c.Control(ctx, func(ctl *Controls) error {
		n := len(ctl.Jobs)
		ctl.Jobs = slices.DeleteFunc(ctl.Jobs, func(x JobPause) bool { return slices.ContainsFunc(over, x.is) })
		if len(ctl.Jobs) == n {
			return errAsIs
		}
		return nil
	})
	if errors.Is(err, errAsIs) {
		return nil
	}
	return err
}
