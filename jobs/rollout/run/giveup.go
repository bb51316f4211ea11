package run

import (
	"context"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/jobs"
)

// giveUp ends a rollout of which too much has failed: once what was restored is removed, if
// it is not to be kept.
func (s *state) giveUp(ctx context.Context) error {
	which := (*replica).begun
	if s.args.Keep {
		which = (*replica).broken
	}
	removes, err := s.removes(ctx, which, fmt.Sprintf("rollout %s was given up", jobs.IDOf(ctx)))
	if err != nil {
		return jobs.Permanent(err)
	}
	if len(removes) > 0 {
		jobs.Event(ctx, "rollout is taken back", "containers", len(removes), "why", s.why())
		return s.await(removes)
	}
	return jobs.Permanent(fmt.Errorf("%s; %s: %w", s.why(), s.remains(), errdefs.ErrFailedPrecondition))
}

func (s *state) why() string {
	return fmt.Sprintf("given up after %d of %d replicas: %d failed, and %d may: %s",
		s.begun(), s.args.Total(), s.failed(), s.args.MayFail(), strings.Join(s.reasons(), "; "))
}

// remains say what there is of a rollout once it is over.
func (s *state) remains() string {
	removed, runs := 0, 0
	for _, r := range s.all {
		for _, c := range r.containers {
			switch {
			case c.remove != nil && c.remove.Record.Err() == nil:
				removed++
			case c.remove == nil && c.restore != nil && c.restore.Record.Err() == nil:
				runs++
			}
		}
	}
	said := fmt.Sprintf("containers removed again: %d", removed)
	if runs > 0 {
		said += fmt.Sprintf(", left running: %d", runs)
	}
	if left := s.left(); len(left) > 0 {
		said += ", and perhaps still running: " + strings.Join(left, "; ")
	}
	return said
}
