package index

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/natsd"
)

type args struct {
	N int `json:"n"`
}

func (args) Kind() string    { return "convert" }
func (args) Validate() error { return nil }

func startQueue(t testing.TB) *queue.Client {
	t.Helper()
	srv, err := natsd.Start(natsd.Config{Dir: t.TempDir(), ContextFile: "-", InProcess: true})
	if err != nil {
		t.Fatal(err)
	}
	client, err := queue.Connect(t.Context(), srv.Client())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		if err := srv.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := client.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	return client
}

func submit(t testing.TB, client *queue.Client, n int, tenant string) (ids []jobs.ID) {
	t.Helper()
	var js []jobs.Job
	for i := range n {
		j, err := jobs.New(args{i}, jobs.Options{Tenant: tenant})
		if err != nil {
			t.Fatal(err)
		}
		js = append(js, j)
	}
	all, err := client.SubmitAll(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range all {
		ids = append(ids, st.ID)
	}
	return ids
}

// run has the index read the pool until the end of the test.
func run(t testing.TB, x *Index) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- x.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// until waits for the index to know of a number of jobs in a state.
func until(t testing.TB, x *Index, state jobs.State, n int) {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < time.Minute; time.Sleep(5 * time.Millisecond) {
		if counts(x)[state] == n {
			return
		}
	}
	t.Fatalf("got %v, want %d %s", counts(x), n, state)
}

func counts(x *Index) map[jobs.State]int {
	m := map[jobs.State]int{}
	for _, c := range x.Counts() {
		m[c.State] += c.N
	}
	return m
}

// all are the jobs of a query, page by page.
func all(x *Index, q Query) (ids []jobs.ID) {
	for {
		page, before := x.Latest(q)
		ids = append(ids, page...)
		if before == 0 {
			return ids
		}
		q.Before = before
	}
}

// What the pool has, and each change of it, is counted once and found by what it is.
func TestIndex(t *testing.T) {
	client := startQueue(t)
	before := submit(t, client, 10, "a")
	x := New(client, nil)
	run(t, x)
	until(t, x, jobs.Queued, 10)
	if !x.Whole() {
		t.Error("all is read, and it does not say so")
	}
	after := submit(t, client, 10, "b")
	until(t, x, jobs.Queued, 20)
	version := x.Version()
	for _, id := range []jobs.ID{before[3], after[5]} {
		if _, err := client.Cancel(t.Context(), id, "test"); err != nil {
			t.Fatal(err)
		}
	}
	until(t, x, jobs.Cancelled, 2)
	if x.Version() == version {
		t.Error("the version is that of before")
	}
	if got := counts(x); got[jobs.Queued] != 18 || len(got) != 2 {
		t.Errorf("counts: %v", got)
	}
	list, err := client.List(t.Context(), queue.Filter{}) // which reads all records
	if err != nil {
		t.Fatal(err)
	}
	var want []jobs.ID
	for _, st := range list {
		want = append(want, st.ID)
	}
	if len(want) != 20 || want[0] != after[5] || want[1] != before[3] {
		t.Fatalf("list: %v", want)
	}
	if diff := cmp.Diff(want, all(x, Query{Limit: 3})); diff != "" {
		t.Errorf("all, those that changed last first (-want +got):\n%s", diff)
	}
	onlyA := func(tenant string) bool { return tenant == "a" }
	if diff := cmp.Diff([]jobs.ID{before[3]}, all(x, Query{Limit: 1, States: []jobs.State{jobs.Cancelled}, Sees: onlyA})); diff != "" {
		t.Errorf("a's that are cancelled (-want +got):\n%s", diff)
	}
	if got := all(x, Query{Limit: 5, Kind: "build"}); len(got) > 0 {
		t.Errorf("builds: %v", got)
	}
}

// What the pool forgets is swept away, and what changes meanwhile is not.
func TestSweep(t *testing.T) {
	client := startQueue(t)
	ids := submit(t, client, 6, "a")
	x := New(client, nil)
	run(t, x)
	until(t, x, jobs.Queued, 6)
	for _, id := range ids[:4] {
		if _, err := client.Cancel(t.Context(), id, "test"); err != nil {
			t.Fatal(err)
		}
	}
	until(t, x, jobs.Cancelled, 4)
	if err := x.sweepOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(all(x, Query{Limit: 100})); n != 6 {
		t.Fatalf("%d jobs are left, and nothing was forgotten", n)
	}
	if _, removed, err := client.Forget(t.Context(), time.Now().Add(time.Hour), 0); err != nil || removed != 4 {
		t.Fatalf("forgot %d: %v", removed, err)
	}
	if err := x.sweepOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := counts(x); got[jobs.Cancelled] != 0 || got[jobs.Queued] != 2 {
		t.Errorf("after the sweep: %v", got)
	}
	if n := len(all(x, Query{Limit: 100})); n != 2 {
		t.Errorf("%d jobs are left", n)
	}
}

// However often jobs change, the holes that they leave are bounded, and old versions that come
// again are passed over.
func TestHoles(t *testing.T) {
	x := New(nil, nil)
	states := []jobs.State{jobs.Queued, jobs.Running, jobs.Retry}
	revision := uint64(0)
	for range 1000 {
		for n := range 10 {
			revision++
			x.apply(change(n, states[revision%3], revision))
		}
	}
	x.apply(change(3, jobs.Done, 5)) // of before
	if len(x.rows) > 2*10+minRows+1 || len(x.at) != 10 || counts(x)[jobs.Done] != 0 {
		t.Errorf("%d rows of %d jobs, %v", len(x.rows), len(x.at), counts(x))
	}
	for id, i := range x.at {
		if x.rows[i].id != id {
			t.Errorf("%s is not where it should be", id)
		}
	}
	if got := all(x, Query{Limit: 4}); len(got) != 10 || got[0] != "convert-9" || got[9] != "convert-0" {
		t.Errorf("got %v", got)
	}
}

func change(n int, state jobs.State, revision uint64) queue.Change {
	return queue.Change{Revision: revision, Record: jobs.Record{ID: jobs.ID(fmt.Sprintf("convert-%d", n)), Class: jobs.Class{Kind: "convert"}, State: state}}
}

// A page of a hundred thousand jobs: the index beside reading all records, which jobs list does.
func BenchmarkLatest(b *testing.B) {
	client := startQueue(b)
	const n = 100_000
	for range n / 1000 {
		submit(b, client, 1000, "a")
	}
	x := New(client, nil)
	run(b, x)
	until(b, x, jobs.Queued, n)
	rare := []jobs.State{jobs.Dead}
	b.Run("index", func(b *testing.B) {
		for b.Loop() {
			if ids, _ := x.Latest(Query{Limit: 50}); len(ids) != 50 {
				b.Fatal(len(ids))
			}
		}
	})
	b.Run("index, none of all", func(b *testing.B) {
		for b.Loop() {
			if ids, _ := x.Latest(Query{Limit: 50, States: rare}); len(ids) != 0 {
				b.Fatal(len(ids))
			}
		}
	})
	b.Run("all records", func(b *testing.B) {
		for b.Loop() {
			if list, err := client.List(b.Context(), queue.Filter{Limit: 50}); err != nil || len(list) != 50 {
				b.Fatal(len(list), err)
			}
		}
	})
}
