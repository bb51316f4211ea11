package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

// archived exports a pool that nobody works in.
func (p *pool) archived() []byte {
	p.t.Helper()
	var b bytes.Buffer
	if _, err := p.Export(p.t.Context(), &b, queue.Transfer{}); err != nil {
		p.t.Fatal(err)
	}
	return b.Bytes()
}

func (p *pool) imported(archive []byte) queue.Imported {
	p.t.Helper()
	im, err := p.Import(p.t.Context(), bytes.NewReader(archive), queue.Transfer{})
	if err != nil {
		p.t.Fatal(err)
	}
	return im
}

// believing is a client that believes the workers of another pool, too.
func (p *pool) believing(other *pool) *queue.Client {
	p.t.Helper()
	read := func(p *pool) (queue.Context, *queue.Keys) {
		c, err := queue.ReadContext(p.cfg.ContextFile)
		if err != nil {
			p.t.Fatal(err)
		}
		keys, err := queue.ReadKeys(c.KeysFile)
		if err != nil {
			p.t.Fatal(err)
		}
		return c, keys
	}
	c, keys := read(p)
	_, theirs := read(other)
	keys.Workers = append(keys.Workers, theirs.Workers...)
	file := filepath.Join(p.t.TempDir(), "keys.json")
	if err := keys.WriteFile(file); err != nil {
		p.t.Fatal(err)
	}
	client, err := queue.Connect(p.t.Context(), queue.Config{URL: c.URL, NkeyFile: c.NkeyFile, KeysFile: file, Log: p.log})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(client.Close)
	return client
}

// graduates is the handler of these tests' jobs.
func graduates(ctx context.Context, a testArgs) (any, error) {
	switch {
	case a.Name == "parent" && len(jobs.Children(ctx)) == 0:
		child, err := jobs.New(pureArgs{"child"}, jobs.Options{})
		if err != nil {
			return nil, err
		}
		return nil, jobs.Await(child)
	case strings.HasPrefix(a.Name, "dies"):
		return nil, jobs.RetryAfter(time.Millisecond, errors.New("boom"))
	}
	return "<" + a.Name + ">", nil
}

// oldPool has a job in each state, and nobody works in it any more.
func oldPool(t *testing.T) (p *pool, ids map[string]jobs.ID) {
	p, ids = newPool(t), map[string]jobs.ID{}
	p.setup()
	stop := p.scheduler(scheduler.Config{})
	stopWorker := p.worker(handle(graduates), worker.Config{Name: "old"})
	add := func(name string, o jobs.Options) jobs.ID {
		ids[name] = p.submit(testArgs{name}, o).ID
		return ids[name]
	}
	p.waitState(add("done", jobs.Options{}), jobs.Done)
	for _, name := range []string{"dies", "dies discarded"} {
		p.waitState(add(name, jobs.Options{MaxAttempts: 1}), jobs.Dead)
		p.until("letter", func() bool { return slices.Contains(p.letters(), ids[name]) })
	}
	if err := p.Discard(t.Context(), ids["dies discarded"]); err != nil {
		t.Fatal(err)
	}
	add("parent", jobs.Options{})
	p.until("wait", func() bool { return p.get(ids["parent"]).State == jobs.Waiting })
	ids["child"] = p.get(ids["parent"]).Children[0]
	p.cron("nightly", "0 3 * * *")
	p.waitState(p.submitted(p.fire("nightly")), jobs.Done)
	p.cron("pending", "0 4 * * *")
	stop()
	stopWorker()
	p.fire("pending")
	add("queued", jobs.Options{Priority: jobs.Interactive})
	add("delayed", jobs.Options{NotBefore: time.Now().Add(time.Hour)})
	running := p.get(add("running", jobs.Options{MaxAttempts: 1}))
	p.apply(running, jobs.Claim{Worker: "gone", Message: 1, At: time.Now()})
	p.control(func(c *queue.Controls) {
		c.Tenants = map[string]queue.Tenant{"t": {Weight: 3}}
		c.Pauses = []queue.Pause{{Selector: queue.Selector{Tenant: "t"}, Reason: "moving"}}
	})
	return p, ids
}

// A job that is dead unless a silent worker is heard of does not die because the list
// of workers stays behind: those that were stopped for the export did not die of it.
func TestExportOfADoubtedJob(t *testing.T) {
	for name, stopped := range map[string]bool{"its worker was stopped": true, "its workers are gone": false} {
		t.Run(name, func(t *testing.T) {
			old := newPool(t)
			if err := old.Setup(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			second := queue.Node{Name: "second", Started: time.Now()}
			id := old.submit(testArgs{}, jobs.Options{}).ID
			for _, w := range []string{"first", "second", "third"} { // by a message that is gone
				old.apply(old.get(id), jobs.Claim{Worker: w, Message: 7, Doubt: time.Hour, At: time.Now()})
			}
			before := old.get(id)
			if !before.Doubted() {
				t.Fatalf("%+v", before.Record)
			}
			if stopped {
				if err := old.Withdraw(t.Context(), second); err != nil {
					t.Fatal(err)
				}
			}
			p := startPool(t)
			p.imported(old.archived())
			switch got := p.get(id); {
			case stopped && (got.State != jobs.Queued || got.Attempt != 1 || got.Poisoned != 1):
				t.Errorf("got %+v", got.Record)
			case !stopped && cmp.Diff(got.Record, before.Record) != "":
				t.Errorf("got %+v, want %+v", got.Record, before.Record)
			}
		})
	}
}

// TestGraduate moves a pool to another server, where everything goes on.
func TestGraduate(t *testing.T) {
	old, ids := oldPool(t)
	before, history := old.get(ids["done"]), old.watch(ids["done"], 0, 0)
	archive := old.archived()
	if got := old.get(ids["running"]); got.State != jobs.Running {
		t.Errorf("the old pool was changed: %+v", got.Record)
	}
	contents, err := queue.CheckArchive(bytes.NewReader(archive))
	if err != nil || contents.Jobs != 9 || contents.Letters != 2 || contents.Timetables != 2 || contents.Controls != 1 || contents.Events == 0 {
		t.Fatalf("archive of %+v, %v", contents, err)
	}

	p := startPool(t)
	im := p.imported(archive)
	if im.Contents != contents || im.Present != 0 || len(im.Strangers) != 1 {
		t.Errorf("imported %+v, want %+v and one key that is not known", im, contents)
	}
	if got := p.get(ids["done"]); got.State != jobs.Failed {
		t.Errorf("a result of unknown keys is believed: %+v", got.Record)
	}
	p.Client = p.believing(old)
	if got := p.get(ids["done"]); got.State != jobs.Done || cmp.Diff(got.Record, before.Record) != "" || got.Revision == before.Revision {
		t.Errorf("got %+v at %d, want %+v", got.Record, got.Revision, before.Record)
	}
	if got := p.get(ids["running"]); got.State != jobs.Queued || got.Attempt != 0 {
		t.Errorf("not handed back: %+v", got.Record)
	}
	if got := p.letters(); len(got) != 1 || got[0] != ids["dies"] {
		t.Errorf("letters %v, want %s", got, ids["dies"])
	}
	if got := p.watch(ids["done"], 0, 0); len(got) != len(history) || got[0].Phrase != history[0].Phrase || !got[0].Time.Equal(history[0].Time) {
		t.Errorf("history %+v, want %+v", got, history)
	}
	if c, err := p.Controls(t.Context()); err != nil || c.Tenants["t"].Weight != 3 || len(c.Pauses) != 1 || c.Pauses[0].Reason != "moving" {
		t.Errorf("controls %+v, %v", c, err)
	}

	p.scheduler(scheduler.Config{})
	p.worker(handle(graduates), worker.Config{Name: "new"})
	var m jobs.Mux
	jobs.Handle(&m, func(context.Context, pureArgs) (any, error) { return 1, nil })
	p.worker(&m, worker.Config{Name: "pure"})
	for _, name := range []string{"queued", "running", "parent", "child"} {
		if st := p.waitState(ids[name], jobs.Done); st.Attempt != 1 {
			t.Errorf("%s took %d attempts", name, st.Attempt)
		}
	}
	if got := p.get(ids["delayed"]); got.State != jobs.Queued || got.NotBefore.IsZero() {
		t.Errorf("delayed: %+v", got.Record)
	}
	all := p.crons()
	if len(all) != 2 || all[0].Name != "nightly" || all[0].Last != nil || all[1].Last == nil {
		t.Fatalf("timetables %+v, want that only the one fired that was about to", all)
	}
	p.waitState(p.submitted(all[1].Last.Job), jobs.Done)
}

// A timetable that fires in the new pool shows that the server there keeps its time.
func TestGraduatedTimetableFires(t *testing.T) {
	old := newPool(t)
	old.setup()
	old.cron("tick", "@every 1s")
	p := startPool(t)
	p.imported(old.archived())
	p.scheduler(scheduler.Config{})
	ran := make(chan string, 100)
	p.worker(handle(func(_ context.Context, a testArgs) (any, error) { ran <- a.Name; return nil, nil }), worker.Config{Name: "w"})
	for range 2 {
		await(t, ran, "fire")
	}
}

// The fire that comes next is caught up with if its time has passed before the import.
func TestFireThatWasDue(t *testing.T) {
	old := newPool(t)
	old.setup()
	old.cron("nightly", "0 3 * * *")
	old.fire("nightly")
	archive := old.archived()
	due := regexp.MustCompile(`"due":"[^"]*"`)
	for _, tc := range []struct {
		due   string
		fires bool
	}{{"2026-01-01T03:00:00Z", true}, {"2999-01-01T03:00:00Z", false}} {
		p := startPool(t)
		p.imported(due.ReplaceAll(archive, []byte(`"due":"`+tc.due+`"`)))
		if all := p.crons(); len(all) != 1 || (all[0].Last != nil) != tc.fires {
			t.Errorf("due at %s: %+v, want that it fires: %v", tc.due, all, tc.fires)
		}
	}
}

// An import that is done again passes over what is there, wherever it was cut off.
func TestImportAgain(t *testing.T) {
	old, ids := oldPool(t)
	archive := old.archived()
	lines := bytes.SplitAfter(archive, []byte("\n"))
	p := startPool(t)
	for n := 1; n < len(lines)-1; n += 3 {
		_, err := p.Import(t.Context(), bytes.NewReader(bytes.Join(lines[:n], nil)), queue.Transfer{})
		if !errdefs.IsDataLoss(err) {
			t.Fatalf("imported %d lines of %d: %v", n, len(lines), err)
		}
	}
	p.imported(archive)
	all := func() (n uint64) {
		for info := range p.JetStream().ListStreams(t.Context()).Info() {
			if name := info.Config.Name; !strings.HasPrefix(name, "KV_") {
				n += info.State.LastSeq
			}
		}
		return n
	}
	was := all()
	im := p.imported(archive)
	if now := all(); now != was || im.Present != im.Jobs+im.Letters+im.Timetables+im.Controls {
		t.Errorf("%d messages and then %d; %+v", was, now, im)
	}

	// What the pool has otherwise it keeps.
	p.cancel(ids["queued"])
	p.cron("nightly", "0 5 * * *")
	again, err := p.Import(t.Context(), bytes.NewReader(archive), queue.Transfer{})
	if !errdefs.IsAlreadyExists(err) || !slices.Equal(again.Different, []string{"job " + string(ids["queued"]), "cron nightly"}) {
		t.Errorf("got %+v, %v", again, err)
	}
	if st := p.get(ids["queued"]); st.State != jobs.Cancelled {
		t.Errorf("overwritten: %+v", st.Record)
	}
}

// Jobs that are there already and those of the archive do not mind each other, in
// numbers of more than one batch.
func TestImportBesideOthers(t *testing.T) {
	old := newPool(t)
	old.setup()
	moved := old.crowd(1200)
	p := startPool(t)
	p.setup()
	own := p.crowd(700)
	if im := p.imported(old.archived()); im.Jobs != len(moved) || im.Events != len(moved) || im.Present != 0 {
		t.Errorf("imported %+v", im)
	}
	for _, st := range append(moved, own...) {
		if got := p.get(st.ID); got.State != jobs.Queued {
			t.Fatalf("got %+v", got.Record)
		}
	}
}

func TestDamagedArchive(t *testing.T) {
	old := newPool(t)
	old.setup()
	old.crowd(3)
	whole := string(old.archived())
	lines := strings.SplitAfter(whole, "\n")
	last := lines[len(lines)-2]
	for name, tc := range map[string]struct {
		archive string
		kind    error
		says    string
	}{
		"empty":            {"", errdefs.ErrInvalidArgument, "line 1: this is no archive"},
		"something else":   {"{}\n", errdefs.ErrInvalidArgument, "line 1: this is no archive"},
		"later version":    {strings.Replace(whole, `"version":1`, `"version":2`, 1), errdefs.ErrFailedPrecondition, "version 2"},
		"no end":           {strings.TrimSuffix(whole, last), errdefs.ErrDataLoss, fmt.Sprintf("line %d: ", len(lines)-1)},
		"cut in a line":    {whole[:len(whole)-len(last)-10], errdefs.ErrDataLoss, "cut off"},
		"cut at the end":   {whole[:len(whole)-10], errdefs.ErrDataLoss, "cut off"},
		"a line lost":      {strings.Replace(whole, lines[2], "", 1), errdefs.ErrDataLoss, "is to hold"},
		"a line damaged":   {strings.Replace(whole, lines[2], "{\n", 1), errdefs.ErrDataLoss, "line 3: "},
		"an empty line":    {strings.Replace(whole, lines[2], "{}\n", 1), errdefs.ErrDataLoss, "line 3: there is no message"},
		"more behind it":   {whole + lines[2], errdefs.ErrDataLoss, "more behind"},
		"a strange stream": {strings.Replace(whole, `"st.`, `"w.`, 2), errdefs.ErrDataLoss, "line 2: "},
		"a wildcard":       {strings.Replace(whole, `"st.`, `"st.*`, 2), errdefs.ErrDataLoss, "line 2: "},
		"half a job":       {strings.Replace(whole, `.spec"`, `.run"`, 1), errdefs.ErrDataLoss, "does not follow its job"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := queue.CheckArchive(strings.NewReader(tc.archive))
			if !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want %v and %q", err, tc.kind, tc.says)
			}
		})
	}
}

// Whoever changes jobs is to be stopped first.
func TestTransferAlone(t *testing.T) {
	p := newPool(t)
	transfer := func() (error, error) {
		_, out := p.Export(t.Context(), new(bytes.Buffer), queue.Transfer{})
		_, in := p.Import(t.Context(), strings.NewReader(`{"format":"lithify-queue","version":1}`), queue.Transfer{})
		return out, in
	}
	if out, _ := transfer(); !errdefs.IsNotFound(out) {
		t.Errorf("exported what is no pool: %v", out)
	}
	stop := p.scheduler(scheduler.Config{Name: "s1"})
	p.leader(1)
	out, in := transfer()
	for _, err := range []error{out, in} {
		if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "s1") {
			t.Errorf("with a scheduler: %v", err)
		}
	}
	stop()
	p.worker(handle(graduates), worker.Config{Name: "w1"})
	p.until("worker", func() bool { ws, err := p.Workers(t.Context()); return err == nil && len(ws) == 1 })
	if out, in = transfer(); !errdefs.IsFailedPrecondition(out) || !strings.Contains(out.Error(), "w1") || !errdefs.IsDataLoss(in) {
		t.Errorf("with a worker: %v, %v", out, in)
	}
}

// A job that is submitted in mid-export makes it fail: the archive has no end.
func TestExportWhileJobsChange(t *testing.T) {
	p := newPool(t)
	p.setup()
	p.crowd(3)
	var b bytes.Buffer
	submitted := false
	_, err := p.Export(t.Context(), &b, queue.Transfer{Tell: func(queue.Contents) {
		if !submitted {
			submitted = true
			p.submit(testArgs{"late"}, jobs.Options{})
		}
	}})
	if !errdefs.IsUnavailable(err) {
		t.Errorf("got %v", err)
	}
	if _, err := queue.CheckArchive(&b); err == nil {
		t.Error("the archive has an end")
	}
}

// A scheduler that is started during an import stands by until it is over.
func TestSchedulerWaitsForImport(t *testing.T) {
	old := newPool(t)
	old.setup()
	st := old.crowd(1)[0]
	archive := old.archived()
	p := startPool(t)
	_, err := p.Import(t.Context(), bytes.NewReader(archive), queue.Transfer{Tell: func(queue.Contents) {
		p.scheduler(scheduler.Config{Name: "eager"})
		p.until("standby", func() bool { found, err := p.Schedulers(t.Context()); return err == nil && len(found) == 2 })
		if found, err := p.Schedulers(t.Context()); err != nil || slices.ContainsFunc(found, func(s queue.Scheduler) bool { return s.Leads && s.Name == "eager" }) {
			t.Errorf("it leads: %+v, %v", found, err)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	p.worker(handle(graduates), worker.Config{Name: "w"})
	p.waitState(st.ID, jobs.Done)
}
