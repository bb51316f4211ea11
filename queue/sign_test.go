package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

// stranger is a client of a pool with another scheduler.
func (p *pool) stranger() *queue.Client {
	p.t.Helper()
	key, err := nkeys.CreateUser()
	if err != nil {
		p.t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, err := queue.ReadContext(p.cfg.ContextFile)
	if err != nil {
		p.t.Fatal(err)
	}
	own, err := queue.ReadKeys(ctx.KeysFile)
	if err != nil {
		p.t.Fatal(err)
	}
	theirs := filepath.Join(p.t.TempDir(), "keys.json")
	own.Scheduler = public
	if err := own.WriteFile(theirs); err != nil {
		p.t.Fatal(err)
	}
	c, err := queue.Connect(p.t.Context(), queue.Config{URL: ctx.URL, NkeyFile: ctx.NkeyFile, KeysFile: theirs})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(c.Close)
	return c
}

func TestAdmissionIsSigned(t *testing.T) {
	p := newPool(t)
	if err := p.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	st, other := p.get(p.submit(testArgs{"a"}, jobs.Options{}).ID), p.get(p.submit(testArgs{"b"}, jobs.Options{}).ID)
	good := p.Admission(st)
	if err := p.CheckAdmission(good.Subject, good.Header, st); err != nil {
		t.Fatalf("the scheduler's own: %v", err)
	}
	p.put(st.Job.ID, ".spec", strings.Replace(p.spec(st.Job.ID), `"a"`, `"z"`, 1))
	tampered := p.get(st.Job.ID)
	if tampered.Revision != st.Revision {
		t.Fatalf("the record moved from %d to %d", st.Revision, tampered.Revision)
	}
	with := func(key, value string) nats.Header {
		h := nats.Header{}
		for k, v := range good.Header {
			h[k] = slices.Clone(v)
		}
		h.Set(key, value)
		return h
	}
	for name, tc := range map[string]struct {
		by      *queue.Client
		subject string
		header  nats.Header
		st      queue.Status
	}{
		"no signature":       {header: nats.Header{}},
		"garbled":            {header: with("Lithify-Signature", "%")},
		"cut":                {header: with("Lithify-Signature", good.Header.Get("Lithify-Signature")[:40])},
		"of another job":     {header: p.Admission(other).Header},
		"at another subject": {subject: strings.Replace(good.Subject, ".any.", ".windows.", 1)},
		"another revision":   {header: with("Lithify-Revision", "1")},
		"prolonged":          {header: with("Lithify-Expires", "99999999999")},
		"of another spec":    {st: tampered},
		"of another key":     {by: p.stranger()},
		"expired":            {header: p.Admission(late(st)).Header},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.by == nil {
				tc.by = p.Client
			}
			if tc.subject == "" {
				tc.subject = good.Subject
			}
			if tc.header == nil {
				tc.header = good.Header
			}
			if tc.st.Job.ID == "" {
				tc.st = st
			}
			if err := tc.by.CheckAdmission(tc.subject, tc.header, tc.st); !errors.Is(err, queue.ErrNotSigned) {
				t.Errorf("got %v, want that it is not signed", err)
			}
		})
	}
}

func late(st queue.Status) queue.Status {
	st.Deadline = time.Now().Add(-2 * time.Hour)
	return st
}

// spec is the job as it is stored.
func (p *pool) spec(id jobs.ID) string {
	p.t.Helper()
	s, err := p.JetStream().Stream(p.t.Context(), queue.StreamState)
	if err != nil {
		p.t.Fatal(err)
	}
	m, err := s.GetLastMsgForSubject(p.t.Context(), "st."+id.Scope()+"."+id.Key()+".spec")
	if err != nil {
		p.t.Fatal(err)
	}
	return string(m.Data)
}

// A message that somebody else put into WORK is taken away by the worker that gets
// it; the record stays as it was, and the scheduler admits the job again.
func TestForgedAdmission(t *testing.T) {
	p := newPool(t)
	var ran atomic.Int32
	p.worker(handle(func(context.Context, testArgs) (any, error) { ran.Add(1); return 1, nil }), worker.Config{Name: "w1"})
	stop := p.scheduler(scheduler.Config{}) // makes the consumer
	first := p.waitState(p.submit(testArgs{}, jobs.Options{}).ID, jobs.Done)
	p.until("its ack", func() bool { return !p.inWork(first.Job.ID) })
	stop()
	st := p.get(p.submit(testArgs{}, jobs.Options{}).ID)
	terms := p.spy("$JS.ACK." + queue.StreamWork + ".>")
	forged := p.Admission(st) // right but for the signature, which is of another job
	forged.Header["Lithify-Signature"] = p.Admission(first).Header["Lithify-Signature"]
	if _, err := p.JetStream().PublishMsg(t.Context(), forged); err != nil {
		t.Fatal(err)
	}
	if m := await(t, terms, "refusal"); !strings.HasPrefix(string(m.Data), "+TERM") {
		t.Errorf("answered with %q", m.Data)
	}
	if now := p.get(st.Job.ID); now.Revision != st.Revision || ran.Load() != 1 {
		t.Errorf("got %+v after %d runs", now.Record, ran.Load())
	}
	p.scheduler(scheduler.Config{})
	p.waitState(st.Job.ID, jobs.Done)
}

// A result that no worker of the pool signed is none: the job has failed, its parent
// is told so, and whoever asks for it again has it done.
func TestForgedResult(t *testing.T) {
	p := newPool(t)
	if err := p.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	child, err := jobs.New(pureArgs{"a"}, jobs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	st, err := p.Submit(t.Context(), child)
	if err != nil {
		t.Fatal(err)
	}
	st = p.apply(st, jobs.Claim{Worker: "eve", At: time.Now()})
	forged, err := jobs.Next(st.Record, jobs.Finish{Claim: st.Revision, Result: []byte(`"forged"`), At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(forged)
	if err != nil {
		t.Fatal(err)
	}
	p.put(child.ID, ".run", string(b))

	if got := p.get(child.ID); got.State != jobs.Failed || got.Result != nil || !errdefs.IsUnauthorized(got.Err()) {
		t.Errorf("read: got %+v", got.Record)
	}
	if all, err := p.List(t.Context(), queue.Filter{}); err != nil || len(all) != 1 || all[0].State != jobs.Failed {
		t.Errorf("list: got %+v, %v", all, err)
	}
	told := make(chan jobs.Child, 1)
	m := handle(func(ctx context.Context, _ testArgs) (any, error) {
		c, ok := jobs.Children(ctx)[child.ID]
		if !ok {
			return nil, jobs.Await(child)
		}
		told <- c
		return 1, nil
	})
	// The parent does not submit it again: the record says that it waited already.
	parent := p.submit(testArgs{}, jobs.Options{})
	parent = p.apply(parent, jobs.Claim{Worker: "w0", At: time.Now()})
	p.apply(parent, jobs.Wait{Claim: parent.Revision, Children: []jobs.ID{child.ID}, At: time.Now()})
	jobs.Handle(m, func(_ context.Context, a pureArgs) (any, error) { return a.Digest, nil })
	p.scheduler(scheduler.Config{Sweep: 50 * time.Millisecond})
	p.worker(m, worker.Config{Name: "w1"})
	if c := await(t, told, "the child's end"); c.Record.State != jobs.Failed || !strings.Contains(c.Record.Failure.Message, "eve") {
		t.Errorf("the parent is told %+v", c.Record)
	}
	if st, err = p.Submit(t.Context(), child); err != nil || st.Generation != 2 {
		t.Fatalf("submitted again: %+v, %v", st.Record, err)
	}
	if got := result[string](t, p.waitState(child.ID, jobs.Done)); got != "a" {
		t.Errorf("got %q", got)
	}
}

// A worker's key is good for its classes, and for the claim that it had.
func TestResultIsSignedForItsClass(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{})
	p.worker(handle(func(context.Context, testArgs) (any, error) { return "<&>", nil }), worker.Config{Name: "w1"})
	id := p.submit(testArgs{}, jobs.Options{}).ID
	st := p.waitState(id, jobs.Done)
	ctx, err := queue.ReadContext(p.cfg.ContextFile)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := queue.ReadKeys(ctx.KeysFile)
	if err != nil {
		t.Fatal(err)
	}
	if st.Signer != keys.Workers[0].Key {
		t.Errorf("signed by %q, want %q", st.Signer, keys.Workers[0].Key)
	}
	read := func() queue.Status {
		path := filepath.Join(t.TempDir(), "keys.json")
		if err := keys.WriteFile(path); err != nil {
			t.Fatal(err)
		}
		c, err := queue.Connect(t.Context(), queue.Config{URL: ctx.URL, NkeyFile: ctx.NkeyFile, KeysFile: path})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		st, err := c.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	keys.Workers[0].Classes = []jobs.Class{{Kind: "test", OS: "windows", Arch: jobs.Any, Feature: jobs.Any}}
	if got := read(); got.State != jobs.Failed || !strings.Contains(got.Failure.Message, "test/any/any/any") {
		t.Errorf("key of another class: got %+v", got.Record)
	}
	keys.Workers[0].Classes = append(keys.Workers[0].Classes, st.Class)
	if got := read(); got.State != jobs.Done {
		t.Errorf("key of its class: got %+v", got.Record)
	}
	moved := st.Record
	moved.Claim++
	b, err := json.Marshal(moved)
	if err != nil {
		t.Fatal(err)
	}
	p.put(id, ".run", string(b))
	if got := read(); got.State != jobs.Failed {
		t.Errorf("signature of another claim: got %+v", got.Record)
	}
}

func TestBadKeys(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"garbage": "{", "no scheduler": "{}", "a seed": `{"scheduler": "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"}`} {
		path := filepath.Join(dir, "keys.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := queue.ReadKeys(path); err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "SUACS") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
