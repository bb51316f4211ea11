// Package index knows of every job of a pool how it stands, to count them and to find the
// latest without reading a hundred thousand records for each page. It holds nothing that
// the pool does not, about 150 bytes a job.
//
//	x := index.New(client, log)
//	go x.Run(ctx)
//	ids, more := x.Latest(index.Query{Kind: "convert", Limit: 50})
package index

import (
	"log/slog"
	"slices"
	"sync"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// Index is safe for concurrent use. It knows what Run has read so far.
type Index struct {
	client *queue.Client
	log    *slog.Logger

	mu      sync.RWMutex
	rows    []row           // by their revision; where a job was before it changed is a hole
	at      map[jobs.ID]int // place in rows
	groups  []Count
	number  map[Group]int32 // place in groups
	version uint64
	sweeps  uint8
	whole   bool
}

// row is a job, in 32 bytes and its ID.
type row struct {
	id       jobs.ID // "": a hole
	revision uint64
	group    int32
	seen     uint8 // the sweep that has met it last
}

// Group is what jobs are counted by.
type Group struct {
	Tenant string
	Kind   string
	State  jobs.State
}

// Count is how many jobs there are of a group.
type Count struct {
	Group
	N int
}

// New makes an index that is empty until it is run. log may be nil.
func New(client *queue.Client, log *slog.Logger) *Index {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Index{client: client, log: log, at: map[jobs.ID]int{}, number: map[Group]int32{}}
}

// Version changes whenever what the index knows does.
func (x *Index) Version() uint64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.version
}

// Whole reports whether all is known that was there when Run began.
func (x *Index) Whole() bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.whole || len(x.at) == 0
}

// Counts are those of the groups that have jobs, in no order.
func (x *Index) Counts() []Count {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return slices.DeleteFunc(slices.Clone(x.groups), func(c Count) bool { return c.N == 0 })
}

// Query chooses jobs.
type Query struct {
	Kind   string                   // else every kind
	States []jobs.State             // else every state
	Sees   func(tenant string) bool // else those of every tenant
	Before uint64                   // only jobs that changed last before this revision; 0: all
	Limit  int
}

// Latest are the jobs that match, those that changed last first. before is the query's
// Before for those that come behind them; 0: there are none.
func (x *Index) Latest(q Query) (ids []jobs.ID, before uint64) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	match := x.matching(q)
	end := len(x.rows)
	if q.Before > 0 {
		end, _ = slices.BinarySearchFunc(x.rows, q.Before, func(r row, revision uint64) int { return compare(r.revision, revision) })
	}
	for i := end - 1; i >= 0; i-- {
		r := x.rows[i]
		if r.id == "" || !match[r.group] {
			continue
		}
		if len(ids) == q.Limit {
			return ids, before
		}
		ids, before = append(ids, r.id), r.revision
	}
	return ids, 0
}

// matching are the groups that a query is for, so that each job costs one look.
func (x *Index) matching(q Query) []bool {
	match := make([]bool, len(x.groups))
	for i, g := range x.groups {
		match[i] = (q.Kind == "" || g.Kind == q.Kind) && (len(q.States) == 0 || slices.Contains(q.States, g.State)) && (q.Sees == nil || q.Sees(g.Tenant))
	}
	return match
}

func compare(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// apply takes in a version of a record. They come in the order of their revisions, and an
// old one may come again.
func (x *Index) apply(ch queue.Change) {
	x.mu.Lock()
	defer x.mu.Unlock()
	r := ch.Record
	if ch.Last {
		x.whole = true
	}
	if r.ID == "" || len(x.rows) > 0 && ch.Revision <= x.rows[len(x.rows)-1].revision {
		return
	}
	x.drop(r.ID)
	g := Group{r.Tenant, r.Class.Kind, r.State}
	if g.Tenant == "" { // of a version that knew no tenants
		g.Tenant = jobs.DefaultTenant
	}
	n, ok := x.number[g]
	if !ok {
		n = int32(len(x.groups))
		x.groups, x.number[g] = append(x.groups, Count{Group: g}), n
	}
	x.groups[n].N++
	x.at[r.ID] = len(x.rows)
	x.rows = append(x.rows, row{id: r.ID, revision: ch.Revision, group: n, seen: x.sweeps})
	x.version++
	if len(x.rows) > 2*len(x.at)+minRows {
		x.compact()
	}
}

// minRows is below what compacting is worth.
const minRows = 1024

// drop leaves a hole where a job is.
func (x *Index) drop(id jobs.ID) {
	if i, ok := x.at[id]; ok {
		x.groups[x.rows[i].group].N--
		x.rows[i].id = ""
		delete(x.at, id)
	}
}

// compact closes the holes.
func (x *Index) compact() {
	rows := make([]row, 0, len(x.at)+len(x.at)/2)
	for _, r := range x.rows {
		if r.id != "" {
			x.at[r.id] = len(rows)
			rows = append(rows, r)
		}
	}
	x.rows = rows
}
