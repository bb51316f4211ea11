package scheduler

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

var testLine = queue.Line{Priority: jobs.Bulk, Class: jobs.Class{Kind: "test", OS: jobs.Any, Arch: jobs.Any, Feature: jobs.Any}}

// model is a pool that is told of jobs as a stream of records would tell it.
type model struct {
	*pool
	revision uint64
	now      time.Time
	closed   map[string]time.Time
}

func newModel(window int) *model {
	m := &model{now: time.Unix(1e9, 0), closed: map[string]time.Time{}}
	m.pool = newPool(window, func(host string, now time.Time) (time.Time, bool) { return m.closed[host], m.closed[host].After(now) })
	m.catchUp()
	return m
}

func (m *model) told(r jobs.Record) {
	m.revision++
	if r.Class.Kind == "" {
		r.Class = testLine.Class
	}
	if r.Priority == "" {
		r.Priority = jobs.Bulk
	}
	if r.Tenant == "" {
		r.Tenant = jobs.DefaultTenant
	}
	r.Generation = max(r.Generation, 1)
	m.update(queue.Change{Revision: m.revision, Record: r})
}

// admit takes what may be admitted in a line, and admits it.
func (m *model) admit(l queue.Line) (ids []jobs.ID) {
	for e := m.take(m.line(l), m.now); e != nil; e = m.take(m.line(l), m.now) {
		m.setAdmitted(e, true)
		ids = append(ids, e.id)
	}
	return ids
}

func (m *model) queue(tenant string, n int, hosts ...string) {
	for i := range n {
		m.told(jobs.Record{ID: jobs.ID(fmt.Sprintf("test-%s%s%d", tenant, hosts, i)), State: jobs.Queued, Tenant: tenant, Hosts: hosts})
	}
}

// Whatever versions of a record are skipped, a job that can be admitted is either
// admitted or waits. (From the edge it cannot be arranged that one is skipped.)
func TestSkippedVersions(t *testing.T) {
	for _, tc := range []struct {
		name   string
		states []jobs.State // each one revision
		take   bool         // is it due for admission?
	}{
		{"submitted", []jobs.State{jobs.Queued}, true},
		{"retry, a claim unseen, handed back", []jobs.State{jobs.Retry, jobs.Queued}, true},
		{"running, handed back", []jobs.State{jobs.Running, jobs.Queued}, false}, // keeps its message
		{"running, a retry unseen, running", []jobs.State{jobs.Running, jobs.Running}, false},
		{"retry, a claim unseen, ended", []jobs.State{jobs.Retry, jobs.Dead}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newModel(1)
			for _, s := range tc.states {
				r := jobs.Record{ID: "test-x", State: s}
				if s == jobs.Retry {
					r.NotBefore = m.now.Add(time.Hour)
				}
				m.told(r)
			}
			m.due(m.now)
			if got := m.admit(testLine); (len(got) == 1) != tc.take {
				t.Errorf("admitted %v, want %v", got, tc.take)
			}
		})
	}
}

// Places that are void go, where nobody takes.
func TestPrune(t *testing.T) {
	m := newModel(8)
	for _, r := range []jobs.Record{{ID: "test-due", State: jobs.Queued}, {ID: "test-ended", State: jobs.Queued}, {ID: "test-ended", State: jobs.Done},
		{ID: "test-runs", State: jobs.Queued}, {ID: "test-runs", State: jobs.Running},
		{ID: "test-again", State: jobs.Queued}, {ID: "test-again", State: jobs.Running}, {ID: "test-again", State: jobs.Retry}} {
		m.told(r)
	}
	m.prune()
	if n := len(m.line(testLine).waiting[0].queues[0].jobs); n != 2 {
		t.Errorf("%d places are left, want 2", n)
	}
	if got, want := m.admit(testLine), []jobs.ID{"test-due", "test-again"}; !slices.Equal(got, want) {
		t.Errorf("admitted %v, want %v", got, want)
	}
}

// What no job uses any more is forgotten, whether or not it had a turn.
func TestPruneForgets(t *testing.T) {
	m := newModel(1)
	m.queue("stays", 1, "stays.example.com")
	m.told(jobs.Record{ID: "test-later", State: jobs.Queued, Tenant: "later", Hosts: []string{"later.example.com"}, NotBefore: m.now.Add(time.Hour)})
	other := testLine
	other.Class.Feature = "gpu"
	for i := range 100 {
		r := jobs.Record{ID: "test-x", State: jobs.Queued, Generation: i + 1, Class: other.Class, Tenant: fmt.Sprint(i), Hosts: []string{fmt.Sprint(i)}}
		m.told(r)
		r.State = jobs.Cancelled
		m.told(r)
	}
	m.prune()
	if len(m.tenants) != 2 || len(m.hosts) != 2 || len(m.hostSets) != 2 || len(m.lines) != 1 || len(m.order) != 1 || len(m.line(testLine).waiting) != 1 {
		t.Errorf("left: tenants %v, hosts %v, %d sets of hosts, lines %v, %d tenants in line", m.tenants, m.hosts, len(m.hostSets), m.lines, len(m.line(testLine).waiting))
	}
	for _, id := range m.admit(testLine) {
		m.told(jobs.Record{ID: id, State: jobs.Done})
	}
	m.due(m.now.Add(time.Hour))
	if got := m.admit(testLine); !slices.Equal(got, []jobs.ID{"test-later"}) {
		t.Errorf("admitted %v", got)
	}
}

func TestTenantsTakeTurns(t *testing.T) {
	m := newModel(12)
	m.control(queue.Controls{Tenants: map[string]queue.Tenant{"b": {Weight: 2}, "d": {MaxInFlight: 1}}})
	for _, name := range []string{"a", "b", "c", "d"} {
		m.queue(name, 20)
	}
	want := []jobs.ID{"test-a[]0", "test-b[]0", "test-b[]1", "test-c[]0", "test-d[]0", "test-a[]1", "test-b[]2", "test-b[]3", "test-c[]1",
		"test-a[]2", "test-b[]4", "test-b[]5"}
	if got := m.admit(testLine); !slices.Equal(got, want) {
		t.Error(cmp.Diff(got, want))
	}
}

// Whoever has how much waiting: what is admitted over time follows the weights, each
// tenant's jobs come in their order, and nobody starves.
func TestSharesFollowWeights(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		m := newModel(1 + rng.IntN(20))
		weights, total := map[string]int{}, 0
		tenants := map[string]queue.Tenant{}
		for i := range 2 + rng.IntN(6) {
			name := fmt.Sprint("t", i)
			weights[name] = 1 + rng.IntN(5)
			total += weights[name]
			tenants[name] = queue.Tenant{Weight: weights[name]}
		}
		m.control(queue.Controls{Tenants: tenants})
		const rounds = 200
		for name := range weights {
			m.queue(name, rounds*total)
		}
		got, next := map[string]int{}, map[string]int{}
		for sum := 0; sum < rounds*total; {
			for _, id := range m.admit(testLine) {
				e := m.jobs[id]
				if want := jobs.ID(fmt.Sprintf("test-%s[]%d", e.tenant.name, next[e.tenant.name])); id != want {
					t.Fatalf("seed %d: %s comes before %s", seed, id, want)
				}
				got[e.tenant.name]++
				next[e.tenant.name]++
				sum++
				m.told(jobs.Record{ID: id, State: jobs.Done, Tenant: e.tenant.name})
			}
		}
		for name, w := range weights {
			if d := got[name] - rounds*w; d < -w*20 || d > w*20 {
				t.Errorf("seed %d: %s with weight %d of %d has %d of %d", seed, name, w, total, got[name], rounds*total)
			}
		}
	}
}

// A job whose registry is busy keeps none behind it that needs another.
func TestHosts(t *testing.T) {
	m := newModel(100)
	m.control(queue.Controls{Registries: map[string]queue.Registry{"a": {Concurrency: 2}}})
	m.queue("t", 4, "a", "b")
	m.queue("t", 2, "b")
	m.closed["c"] = m.now.Add(time.Minute)
	m.queue("t", 1, "c")
	if got, want := m.admit(testLine), []jobs.ID{"test-t[a b]0", "test-t[a b]1", "test-t[b]0", "test-t[b]1"}; !slices.Equal(got, want) {
		t.Error(cmp.Diff(got, want))
	}
	if at, ok := m.next(); !ok || !at.Equal(m.closed["c"]) {
		t.Errorf("looks again at %v", at)
	}
	m.told(jobs.Record{ID: "test-t[a b]0", State: jobs.Done, Tenant: "t"})
	m.now = m.now.Add(time.Hour)
	if got, want := m.admit(testLine), []jobs.ID{"test-t[a b]2", "test-t[c]0"}; !slices.Equal(got, want) {
		t.Error(cmp.Diff(got, want))
	}
	if a, b := m.host("a").inFlight, m.host("b").inFlight; a != 2 || b != 4 {
		t.Errorf("in flight: %d of a, %d of b", a, b)
	}
}

func TestPauses(t *testing.T) {
	for _, tc := range []struct {
		name  string
		pause queue.Selector
		keeps int // of three
	}{
		{"everything", queue.Selector{}, 3},
		{"the kind", queue.Selector{Kind: "test"}, 3},
		{"another kind", queue.Selector{Kind: "other"}, 0},
		{"a tenant", queue.Selector{Tenant: "t"}, 2},
		{"a registry", queue.Selector{Registry: "a"}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newModel(100)
			m.queue("t", 1, "a")
			m.queue("t", 1)
			m.queue("u", 1)
			m.control(queue.Controls{Pauses: []queue.Pause{{Selector: tc.pause}}})
			if got := m.admit(testLine); len(got) != 3-tc.keeps {
				t.Errorf("admitted %v, %d are to be kept", got, tc.keeps)
			}
			m.control(queue.Controls{})
			m.admit(testLine)
			m.told(jobs.Record{ID: "test-u[]0", State: jobs.Running, Tenant: "u"})
			m.control(queue.Controls{Pauses: []queue.Pause{{Selector: tc.pause}}})
			want := min(tc.keeps, 2) // one runs
			if back := m.takeBack(nil); len(back) != want {
				t.Errorf("%d taken back, want %d", len(back), want)
			}
		})
	}
}

// A job that becomes urgent leaves its line.
func TestPromotion(t *testing.T) {
	m := newModel(100)
	r := jobs.Record{ID: "test-x", State: jobs.Queued}
	m.told(r)
	m.admit(testLine)
	r.Priority, r.Class, r.Tenant, r.Generation = jobs.Interactive, testLine.Class, jobs.DefaultTenant, 1
	m.revision++
	moved := m.update(queue.Change{Revision: m.revision, Record: r})
	if moved.from == nil || *moved.from != testLine || m.line(testLine).admitted != 0 {
		t.Errorf("got %+v, %d are admitted in the line it has left", moved, m.line(testLine).admitted)
	}
	if got := m.admit(queue.LineOf(r)); len(got) != 1 {
		t.Errorf("admitted %v in its new line", got)
	}
}

// Whoever asks for a job that waits in line, too, does not send it to the end.
func TestJoinKeepsThePlace(t *testing.T) {
	m := newModel(1)
	first := jobs.Record{ID: "test-first", State: jobs.Queued}
	m.told(first)
	m.told(jobs.Record{ID: "test-second", State: jobs.Queued})
	first.Direct = true
	m.told(first)
	if got := m.admit(testLine); !slices.Equal(got, []jobs.ID{"test-first"}) {
		t.Errorf("admitted %v", got)
	}
}

// A tenant whose jobs have all gone has its turns again when it comes back, and so has a
// set of registries.
func TestComesBack(t *testing.T) {
	for name, leave := range map[string]func(m *model){
		"admitted": func(m *model) {
			for _, id := range m.admit(testLine) {
				m.told(jobs.Record{ID: id, State: jobs.Done})
			}
		},
		"ended": func(m *model) {
			for _, e := range m.jobs {
				m.told(jobs.Record{ID: e.id, State: jobs.Cancelled})
			}
			m.prune()
		},
		"some admitted": func(m *model) { // tenant a stays, without its queue of host y
			m.queue("a", 20, "x")
			for _, id := range m.admit(testLine) {
				m.told(jobs.Record{ID: id, State: jobs.Done})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newModel(8)
			m.line(testLine).slots = 1 // it stays
			m.queue("a", 1, "y")
			m.queue("b", 1)
			leave(m)
			m.queue("a", 1, "y")
			m.queue("b", 1)
			if got, want := len(m.line(testLine).shares), len(m.line(testLine).waiting); got != want {
				t.Errorf("%d shares, of which %d have turns", got, want)
			}
			var got []jobs.ID
			for range 5 {
				ids := m.admit(testLine)
				for _, id := range ids {
					m.told(jobs.Record{ID: id, State: jobs.Done})
				}
				got = append(got, ids...)
			}
			for _, want := range []jobs.ID{"test-a[y]0", "test-b[]0"} {
				if !slices.Contains(got, want) {
					t.Errorf("%s is not admitted, but %v", want, got)
				}
			}
		})
	}
}

// BenchmarkLine has jobs come in that have a tenant, or registries, of their own each.
func BenchmarkLine(b *testing.B) {
	const n = 30_000
	for name, record := range map[string]func(i int) jobs.Record{
		"tenants":  func(i int) jobs.Record { return jobs.Record{Tenant: fmt.Sprint("t", i)} },
		"hostsets": func(i int) jobs.Record { return jobs.Record{Hosts: []string{fmt.Sprint("h", i)}} },
	} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				m := newModel(64)
				for i := range n {
					r := record(i)
					r.ID, r.State = layerID(i), jobs.Queued
					m.told(r)
				}
			}
		})
	}
}

func TestWaiters(t *testing.T) {
	wait := func(m *model, id jobs.ID, children ...jobs.ID) {
		m.told(jobs.Record{ID: id, State: jobs.Waiting, Children: children})
	}
	for name, run := range map[string]func(m *model){
		"children known": func(m *model) {
			m.told(jobs.Record{ID: "test-a", State: jobs.Queued})
			m.told(jobs.Record{ID: "test-b", State: jobs.Running})
			wait(m, "test-p", "test-a", "test-b")
			m.told(jobs.Record{ID: "test-a", State: jobs.Done})
			if len(m.ready) > 0 {
				panic("ready with one to wait for")
			}
			m.told(jobs.Record{ID: "test-b", State: jobs.Failed})
		},
		"children read after it": func(m *model) {
			m.caughtUp = false
			wait(m, "test-p", "test-a")
			m.told(jobs.Record{ID: "test-a", State: jobs.Queued})
			m.catchUp()
			if len(m.ready) > 0 {
				panic("ready with one to wait for")
			}
			m.told(jobs.Record{ID: "test-a", State: jobs.Done})
		},
		"a child that was not heard of": func(m *model) {
			wait(m, "test-p", "test-a")
			m.ready = nil
			m.stranger(m.jobs["test-p"], "test-a")
			m.told(jobs.Record{ID: "test-a", State: jobs.Queued})
			if !m.waitedFor(m.jobs["test-a"]) {
				panic("nobody waits")
			}
			m.told(jobs.Record{ID: "test-a", State: jobs.Done})
		},
		"a child whose end was missed": func(m *model) {
			wait(m, "test-p", "test-a")
			m.ready = nil
			m.stranger(m.jobs["test-p"], "test-a")
			m.estranged()
		},
		"no children left": func(m *model) { wait(m, "test-p", "test-a") },
	} {
		t.Run(name, func(t *testing.T) {
			m := newModel(1)
			run(m)
			if len(m.ready) != 1 || m.ready[0].e.id != "test-p" {
				t.Errorf("ready: %v", m.ready)
			}
		})
	}
}

// BenchmarkPool has the scheduler know 1,000,000 layers and the 100,000 images that
// wait for ten of them each.
func BenchmarkPool(b *testing.B) {
	const images, layers = 100_000, 1_000_000
	for range b.N {
		before := liveHeap(b)
		m := newModel(64)
		for i := range layers {
			m.told(jobs.Record{ID: layerID(i), State: jobs.Queued, Hosts: []string{"registry.example.com"}})
		}
		for i := range images {
			r := jobs.Record{ID: jobs.ID(fmt.Sprintf("convert-%026d", i)), State: jobs.Waiting}
			for j := range 10 {
				r.Children = append(r.Children, layerID((i*10+j*7)%layers))
			}
			m.told(r)
		}
		b.ReportMetric(float64(liveHeap(b)-before)/(1<<20), "MiB")
		runtime.KeepAlive(m)
	}
}

func layerID(i int) jobs.ID { return jobs.ID(fmt.Sprintf("layer-%064x", i)) }

func liveHeap(b *testing.B) uint64 {
	b.Helper()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// A time that is no number of nanoseconds is far away, and not long ago.
func TestTimesFarAway(t *testing.T) {
	m := newModel(1)
	far := time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	m.told(jobs.Record{ID: "test-x", State: jobs.Queued, NotBefore: far, Deadline: far.Add(jobs.DefaultTimeout)})
	m.due(m.now)
	if got := m.admit(testLine); len(got) != 0 {
		t.Errorf("admitted %v", got)
	}
	if d := m.jobs["test-x"].deadline; d < m.now.UnixNano() {
		t.Errorf("its deadline is %v", time.Unix(0, d))
	}
}
