package scheduler

import (
	"context"
	"slices"

	"github.com/lithify/lithify/queue"
)

// markOpen is how many old jobs a mark names, so that a few which wait for weeks keep
// no start from passing over what ended since: their IDs are a message of some 50 kB.
const markOpen = 1000

// mark is the highest one that is true of the pool, which has read every record.
func (p *pool) mark(limit int) queue.Mark {
	if len(p.jobs) <= limit {
		return p.markAt(p.heard.revision + 1)
	}
	revisions := make([]uint64, 0, len(p.jobs))
	for _, e := range p.jobs {
		revisions = append(revisions, e.revision)
	}
	slices.Sort(revisions)
	return p.markAt(revisions[limit])
}

func (p *pool) markAt(revision uint64) queue.Mark {
	m := queue.Mark{Revision: revision}
	for id, e := range p.jobs {
		if e.revision < revision {
			m.Open = append(m.Open, id)
		}
	}
	slices.Sort(m.Open)
	return m
}

// setMark writes what the next start may pass over. Any scheduler may that has read every
// record, whether it leads or not. A record that cannot be read stays
// ahead of the mark, for the version that can; so do the dead that have no letter yet.
func (s *Scheduler) setMark(ctx context.Context) error {
	if !s.pool.caughtUp || len(s.unburied) > 0 {
		return nil
	}
	m := s.pool.mark(markOpen)
	if first := s.unread.Load(); first > 0 && first < m.Revision {
		m = s.pool.markAt(first)
	}
	if m.Revision == s.mark.Revision && slices.Equal(m.Open, s.mark.Open) {
		return nil
	}
	if err := s.client.SetMark(ctx, m); err != nil {
		return err
	}
	s.mark = m
	return nil
}
