package jobs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lithify/lithify/jobs"
)

type copyArgs struct {
	Src string `json:"src"`
	Dst string `json:"dst"`
}

func (copyArgs) Kind() string { return "copy" }
func (a copyArgs) Validate() error {
	if a.Src == "" {
		return errors.New("no source")
	}
	return nil
}

type layerArgs struct {
	Digest string `json:"digest"`
}

func (layerArgs) Kind() string    { return "layer" }
func (layerArgs) Validate() error { return nil }
func (a layerArgs) Identity() any { return a }

func newJob(t *testing.T, a jobs.Args, o jobs.Options) jobs.Job {
	t.Helper()
	j, err := jobs.New(a, o)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestIdentity(t *testing.T) {
	a, key := copyArgs{Src: "a"}, jobs.Options{IdempotencyKey: "k"}
	for _, tc := range []struct {
		name string
		x, y jobs.Job
		same bool
	}{
		{"plain", newJob(t, a, jobs.Options{}), newJob(t, a, jobs.Options{}), false},
		{"one key", newJob(t, a, key), newJob(t, copyArgs{Src: "b"}, key), true},
		{"two keys", newJob(t, a, key), newJob(t, a, jobs.Options{IdempotencyKey: "l"}), false},
		{"pure", newJob(t, layerArgs{"d"}, jobs.Options{}), newJob(t, layerArgs{"d"}, key), true},
		{"pure, other args", newJob(t, layerArgs{"d"}, jobs.Options{}), newJob(t, layerArgs{"e"}, jobs.Options{}), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.x.ID == tc.y.ID; got != tc.same {
				t.Errorf("%s, %s: same = %v", tc.x.ID, tc.y.ID, got)
			}
			if _, err := jobs.ParseID(string(tc.x.ID)); err != nil {
				t.Error(err)
			}
		})
	}
}

// A pure ID is written into streams and ledgers: it may never change.
func TestPureIDIsStable(t *testing.T) {
	// printf 'args\0layer\0{"digest":"sha256:00"}' | sha256sum
	const want = "layer-621c825e352d38000da16233d9c1a6e29f16340a69e8228d08ea11037b739d2f"
	got := string(newJob(t, layerArgs{"sha256:00"}, jobs.Options{}).ID)
	if got != want {
		t.Errorf("got %s want %s", got, want)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, try := range map[string]func() (jobs.Job, error){
		"invalid args":  func() (jobs.Job, error) { return jobs.New(copyArgs{}, jobs.Options{}) },
		"foreign class": func() (jobs.Job, error) { return jobs.New(layerArgs{}, jobs.Options{Class: jobs.Class{Kind: "copy"}}) },
		"subject in arm": func() (jobs.Job, error) {
			return jobs.New(layerArgs{}, jobs.Options{Class: jobs.Class{Kind: "layer", OS: "any", Arch: "arm.v7", Feature: "any"}})
		},
	} {
		if j, err := try(); err == nil {
			t.Errorf("%s: got %v", name, j)
		}
	}
}

func TestParseID(t *testing.T) {
	for _, bad := range []string{"", "copy", "copy-", "-x", "copy-x-y", "copy-*", "copy-x.y", "Copy-x", "copy-" + strings.Repeat("x", 65)} {
		if id, err := jobs.ParseID(bad); err == nil {
			t.Errorf("%q: got %s", bad, id)
		}
	}
}

func TestClass(t *testing.T) {
	for in, want := range map[string]string{
		"layer": "layer/any/any/any", "layer/linux": "layer/linux/any/any", "layer/linux/amd64/erofs": "layer/linux/amd64/erofs",
		"": "", "a/b/c/d/e": "", "layer//x": "", "layer/>": "",
	} {
		c, err := jobs.ParseClass(in)
		if got := c.String(); err == nil && got != want || err != nil && want != "" {
			t.Errorf("%q: got %q, %v want %q", in, got, err, want)
		}
	}
}

func TestErrorClass(t *testing.T) {
	base := errors.New("base")
	for _, tc := range []struct {
		name  string
		err   error
		class jobs.ErrorClass
		delay time.Duration
	}{
		{"plain", base, jobs.ClassTransient, 0},
		{"permanent", fmt.Errorf("pull: %w", jobs.Permanent(base)), jobs.ClassPermanent, 0},
		{"retry after", jobs.RetryAfter(time.Minute, base), jobs.ClassTransient, time.Minute},
		{"outermost wins", jobs.RetryAfter(time.Second, jobs.Permanent(base)), jobs.ClassTransient, time.Second},
		{"disk full", &os.PathError{Op: "write", Err: syscall.ENOSPC}, jobs.ClassResource, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, _ := jobs.RetryDelay(tc.err)
			if got := jobs.ClassOf(tc.err); got != tc.class || d != tc.delay {
				t.Errorf("got %s after %v", got, d)
			}
			if tc.name != "disk full" && !errors.Is(tc.err, base) {
				t.Error("the mark hides the error")
			}
		})
	}
	if jobs.Permanent(nil) != nil || jobs.RetryAfter(1, nil) != nil {
		t.Error("a marked nil is not nil")
	}
}

func TestMux(t *testing.T) {
	var m jobs.Mux
	jobs.Handle(&m, func(_ context.Context, a copyArgs) (any, error) { return map[string]string{"dst": a.Dst}, nil })
	got, err := m.Run(t.Context(), "copy", json.RawMessage(`{"src":"a","dst":"b"}`))
	if err != nil || string(got) != `{"dst":"b"}` {
		t.Errorf("got %s, %v", got, err)
	}
	for name, in := range map[string][2]string{
		"unknown kind": {"burn", `{}`}, "invalid": {"copy", `{}`}, "unknown field": {"copy", `{"src":"a","force":true}`},
		"trailing data": {"copy", `{"src":"a"}{}`}, "not json": {"copy", `src`},
	} {
		if _, err := m.Run(t.Context(), in[0], json.RawMessage(in[1])); err == nil || jobs.ClassOf(err) != jobs.ClassPermanent {
			t.Errorf("%s: got %v, want a permanent error", name, err)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a second handler for one kind was taken")
		}
	}()
	jobs.Handle(&m, func(context.Context, copyArgs) (any, error) { return nil, nil })
}

type lines []string

func (l *lines) Alive(n int64) { *l = append(*l, fmt.Sprint("alive ", n)) }
func (l *lines) Quiet(d time.Duration, why string) func() {
	*l = append(*l, fmt.Sprint("quiet ", d, " ", why))
	return func() { *l = append(*l, "end") }
}
func (l *lines) Event(phrase string, attrs ...any) {
	r := slog.NewRecord(time.Time{}, 0, phrase, 0)
	r.Add(attrs...)
	r.Attrs(func(a slog.Attr) bool { phrase += " " + a.String(); return true })
	*l = append(*l, phrase)
}

func (l *lines) Log(p []byte) { *l = append(*l, "log "+string(p)) }

func TestReport(t *testing.T) {
	say := func(ctx context.Context) {
		jobs.Alive(ctx, 5)
		defer jobs.Quiet(ctx, time.Minute, "upload")()
		jobs.Event(ctx, "layer pushed", "size", 7)
		jobs.Log(ctx, []byte("a line"))
	}
	say(t.Context()) // nobody listens
	var got lines
	say(jobs.WithReporter(t.Context(), &got))
	if diff := cmp.Diff(got, lines{"alive 5", "quiet 1m0s upload", "layer pushed size=7", "log a line", "end"}); diff != "" {
		t.Errorf("-got +want:\n%s", diff)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"id":"copy-x","class":"copy/any/any/any","state":"retry","generation":1,"attempt":1,"max_attempts":3,"deadline":"2026-01-01T00:00:00Z"}`))
	f.Add([]byte(`{"id":"copy-x","kind":"copy","class":"copy/linux","args":{"src":"a"},"trace":{"traceparent":"x"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := jobs.DecodeRecord(b); err == nil {
			for _, e := range []jobs.Edge{jobs.Claim{}, jobs.Fail{}, jobs.Finish{}, jobs.HandBack{}, jobs.Cancel{}, jobs.Expire{}} {
				if n, err := jobs.Next(r, e); err == nil && n.State == r.State && n.State.Ended() {
					t.Errorf("%T leaves %s", e, r.State)
				}
			}
		}
		if j, err := jobs.DecodeJob(b); err == nil {
			out, err := json.Marshal(j)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := jobs.DecodeJob(out); err != nil || again.ID != j.ID || again.Class != j.Class {
				t.Errorf("%s does not survive a second reading: %v", out, err)
			}
		}
	})
}

// boundArgs are of a kind that only a node can run.
type boundArgs struct {
	Node string `json:"node"`
}

func (boundArgs) Kind() string      { return "bound" }
func (boundArgs) Validate() error   { return nil }
func (a boundArgs) BoundTo() string { return a.Node }

func TestBound(t *testing.T) {
	a := newJob(t, boundArgs{"node-1.example"}, jobs.Options{})
	b := newJob(t, boundArgs{"node-2.example"}, jobs.Options{Class: jobs.Class{Kind: "bound", OS: jobs.Any, Arch: jobs.Any, Feature: jobs.Any}})
	if a.Class != jobs.NodeClass("bound", "node-1.example") || b.Class != jobs.NodeClass("bound", "node-2.example") || a.Class == b.Class {
		t.Errorf("classes %v and %v, want those of the nodes", a.Class, b.Class)
	}
	if _, err := jobs.ParseClass(a.Class.String()); err != nil {
		t.Error(err)
	}
	if _, err := jobs.New(boundArgs{}, jobs.Options{}); err == nil {
		t.Error("a job without its node was made")
	}
	var m jobs.Mux
	jobs.Handle(&m, func(context.Context, boundArgs) (any, error) { return nil, nil })
	jobs.Handle(&m, func(context.Context, copyArgs) (any, error) { return nil, nil })
	if !m.Bound("bound") || m.Bound(copyArgs{}.Kind()) || m.Bound("none") {
		t.Error("the mux does not know which kinds are bound")
	}
}
