package history

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Check says which promises were broken, one sentence each.
func (r Run) Check() []string {
	h := newIndex(r)
	return slices.Concat(h.lost(), h.unexplained(), h.changedResults(), h.afterCancel(), h.executedAgain(), h.burned(), h.left())
}

// index is a run by job.
type index struct {
	Run
	final    map[string]Version
	versions map[string][]Version // in the order of their revisions, the final one last
	writes   map[string][]Write
}

func newIndex(r Run) *index {
	h := &index{Run: r, final: map[string]Version{}, versions: map[string][]Version{}, writes: map[string][]Write{}}
	for _, v := range r.Final {
		h.final[v.ID] = v
	}
	for _, v := range slices.Concat(r.Versions, r.Final) {
		h.versions[v.ID] = append(h.versions[v.ID], v)
	}
	for _, vs := range h.versions {
		slices.SortStableFunc(vs, func(a, b Version) int { return cmp.Compare(a.Revision, b.Revision) })
	}
	for _, w := range r.Writes {
		h.writes[w.ID] = append(h.writes[w.ID], w)
	}
	h.Faults = append(slices.Clone(h.Faults), h.slow()...)
	return h
}

// late is what the server may take to store a record before claims and heartbeats are
// late by it.
const late = 500 * time.Millisecond

// slow are the times in which the server took longer: its disk has others to serve, too.
func (h *index) slow() (stalls []Fault) {
	for id, vs := range h.versions {
		for _, v := range vs {
			sent := v.Stored
			for _, w := range h.writes[id] {
				if w.State == v.State && w.Worker == v.Worker && !w.At.After(v.Stored) {
					sent = w.At // the last one
				}
			}
			if v.Stored.Sub(sent) > late {
				stalls = append(stalls, Fault{Kind: Stall, Victim: Server, From: sent, Until: v.Stored})
			}
		}
	}
	return stalls
}

// lost are jobs that were accepted, or just exist, and have not ended.
func (h *index) lost() (bad []string) {
	for _, s := range h.Submissions {
		v, ok := h.final[s.ID]
		switch {
		case !ok:
			bad = append(bad, fmt.Sprintf("%s was accepted at %s and is not there", s.ID, clock(s.At)))
		case v.Generation < s.Generation:
			bad = append(bad, fmt.Sprintf("%s was accepted as generation %d at %s and is of generation %d", s.ID, s.Generation, clock(s.At), v.Generation))
		}
	}
	for id, v := range h.final {
		if !v.State.Ended() {
			bad = append(bad, fmt.Sprintf("%s is %s for ever, by %s since %s", id, v.State, v.Worker, clock(v.Stored)))
		}
	}
	return bad
}

// unexplained are jobs that ended otherwise than they had to, without a reason that
// makes it right.
func (h *index) unexplained() (bad []string) {
	for _, s := range h.Submissions {
		v, ok := h.final[s.ID]
		if !ok || !v.State.Ended() || v.State == s.Want {
			continue
		}
		switch {
		case v.State == Cancelled && v.Reason == Asked:
		case v.State == Failed && v.Failure != nil && strings.HasPrefix(v.Failure.Message, ChildFailed):
		case v.State == Dead && h.kills(v) >= 2:
		default:
			bad = append(bad, fmt.Sprintf("%s is %s, want %s: %s", s.ID, v.State, s.Want, v.why()))
		}
	}
	return bad
}

// Asked is the reason of every cancellation in a run. Of those that returned an
// error, some were written.
const Asked = "the run says so"

// ChildFailed begins the error of a parent that gives up because of a child.
const ChildFailed = "child failed: "

func (v Version) why() string {
	switch {
	case v.Failure != nil:
		return v.Failure.Message
	case v.Reason != "":
		return v.Reason
	}
	return "for no stated reason"
}

// kills counts the workers that had the job in its last generation and were killed
// before it ended. One that was cut off first, and was never heard of again, counts.
func (h *index) kills(last Version) (n int) {
	for _, v := range h.versions[last.ID] {
		if v.Generation == last.Generation && v.State == Running && h.killed(v, last.Stored) {
			n++
		}
	}
	return n
}

// killed reports whether a kill was what ended the process that made a claim, before
// until.
func (h *index) killed(claim Version, until time.Time) bool {
	sent, _ := h.claims(Line{At: claim.Stored, ID: claim.ID, Worker: claim.Worker})
	end := Fault{From: until}
	for _, f := range h.Faults {
		if (f.Kind == Kill || f.Kind == Term) && f.hits(claim.Worker) && f.From.After(sent) && f.From.Before(end.From) {
			end = f
		}
	}
	return end.Kind == Kill
}

// changedResults are jobs with more than one result, or whose record changed after
// it had one.
func (h *index) changedResults() (bad []string) {
	for id, vs := range h.versions {
		i := slices.IndexFunc(vs, func(v Version) bool { return v.State == Done })
		if i < 0 {
			continue
		}
		for _, v := range vs[i+1:] {
			if v.Revision != vs[i].Revision || v.State != Done || string(v.Result) != string(vs[i].Result) {
				bad = append(bad, fmt.Sprintf("%s was done at revision %d by %s, and is %s at revision %d by %s",
					id, vs[i].Revision, vs[i].Worker, v.State, v.Revision, v.Worker))
			}
		}
	}
	return bad
}

// afterCancel are jobs that went on in a generation whose cancellation had
// returned.
func (h *index) afterCancel() (bad []string) {
	for _, c := range h.Cancels {
		vs := h.versions[c.ID]
		i := slices.IndexFunc(vs, func(v Version) bool { return v.Generation == c.Generation && v.State == Cancelled })
		for j, v := range vs {
			if v.Generation == c.Generation && (v.State == Done || i >= 0 && j > i && v.State != Cancelled) {
				bad = append(bad, fmt.Sprintf("%s was cancelled at %s and is %s by %s", c.ID, clock(c.At), v.State, v.Worker))
			}
		}
		if last, ok := h.final[c.ID]; ok && last.Generation == c.Generation && last.State != Cancelled {
			bad = append(bad, fmt.Sprintf("%s was cancelled at %s and ended %s", c.ID, clock(c.At), last.State))
		}
	}
	return bad
}

// executedAgain are calls of handlers that no claim made before the job's result
// explains.
func (h *index) executedAgain() (bad []string) {
	begun := map[[2]string]int{}
	for _, l := range h.Diary {
		if l.Event != Began {
			continue
		}
		claim, n := h.claims(l)
		key := [2]string{l.ID, l.Worker}
		if begun[key]++; begun[key] > n {
			bad = append(bad, fmt.Sprintf("%s ran %d times on %s, which claimed it %d times", l.ID, begun[key], l.Worker, n))
			continue
		}
		done, ok := h.done(l.ID)
		if ok && claim.After(done.Stored) {
			bad = append(bad, fmt.Sprintf("%s began on %s at %s by a claim of %s, and was done by %s at %s",
				l.ID, l.Worker, clock(l.At), clock(claim), done.Worker, clock(done.Stored)))
		}
	}
	return bad
}

func (h *index) done(id string) (Version, bool) {
	for _, v := range h.versions[id] {
		if v.State == Done {
			return v, true
		}
	}
	return Version{}, false
}

// claims are those that a line's worker sent before it began: the last, and how many.
func (h *index) claims(l Line) (last time.Time, n int) {
	for _, w := range h.writes[l.ID] {
		if w.State == Running && w.Worker == l.Worker && !w.At.After(l.At) {
			last, n = w.At, n+1
		}
	}
	return last, n
}

// burned are attempts that count as poisoned, though nothing had happened to the
// worker or its way to the queue.
func (h *index) burned() (bad []string) {
	for id, vs := range h.versions {
		for i := 1; i < len(vs); i++ {
			was, is := vs[i-1], vs[i]
			if was.State != Running || is.Generation != was.Generation || is.Poisoned <= was.Poisoned || is.Worker == was.Worker && is.State != Running {
				continue // a worker that says itself that its handler panicked
			}
			if !h.fault(was.Stored, is.Stored, func(f Fault) bool { return f.burns(was.Worker) }) {
				bad = append(bad, fmt.Sprintf("%s was taken from %s, which had it since %s, at %s by %s: nothing had happened to it",
					id, was.Worker, clock(was.Stored), clock(is.Stored), is.Worker))
			}
		}
	}
	return bad
}

// fault reports whether one that matters overlaps the time between two records.
func (h *index) fault(from, until time.Time, matters func(Fault) bool) bool {
	return slices.ContainsFunc(h.Faults, func(f Fault) bool {
		return f.From.Before(until) && f.Until.Add(recovery).After(from) && matters(f)
	})
}

// recovery is how long after its end a fault may show: the process starts or
// connects again, and what it holds is told the server by the next heartbeat.
const recovery = 5 * time.Second

// hits reports whether a fault was done to the process of a worker. Worker w1 is
// w1-1 in its first life and w1-2 in the next.
func (f Fault) hits(worker string) bool {
	slot, _, _ := strings.Cut(worker, "-")
	return f.Victim == slot
}

func (f Fault) burns(worker string) bool {
	return f.hits(worker) || f.Victim == Server || f.Victim == Machine
}

// Victims that are no worker.
const (
	Server  = "server"
	Machine = "machine"
)

func (h *index) left() (bad []string) {
	for _, s := range h.Left {
		bad = append(bad, "left in WORK: "+s)
	}
	return bad
}

func clock(t time.Time) string { return t.Format("15:04:05.000") }
