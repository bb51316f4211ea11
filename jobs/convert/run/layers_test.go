package run_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/lithify/lithify/jobs"
	convertjob "github.com/lithify/lithify/jobs/convert"
	"github.com/lithify/lithify/jobs/convert/run"
	layerjob "github.com/lithify/lithify/jobs/layer"
)

// pool is a registry and the handler of a pool's worker.
type pool struct {
	t    *testing.T
	host string
	run.Handler
}

func newPool(t *testing.T) *pool {
	t.Helper()
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(s.Close)
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	p := &pool{t: t, host: strings.TrimPrefix(s.URL, "http://"), Handler: run.Handler{Spread: true, TempDir: t.TempDir()}}
	p.SignWith(key)
	return p
}

// image pushes an image of two layers to both repositories.
func (p *pool) image(repos ...string) {
	p.t.Helper()
	image, err := random.Image(1000, 2)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, repo := range repos {
		p.push(repo, image)
	}
}

func (p *pool) push(repo string, image v1.Image) {
	p.t.Helper()
	ref, err := name.ParseReference(p.host + "/" + repo + ":tar")
	if err == nil {
		err = remote.Write(ref, image)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *pool) args(repo string) convertjob.Args {
	return convertjob.Args{Source: p.host + "/" + repo + ":tar", AllPlatforms: true, Output: convertjob.Output{Target: p.host + "/" + repo + ":erofs", LedgerRepo: convertjob.DefaultLedgerRepo}}
}

// waits runs the job and gives those that it waits for.
func (p *pool) waits(ctx context.Context, repo string) []jobs.Job {
	p.t.Helper()
	_, err := p.Run(ctx, p.args(repo))
	children, ok := jobs.Awaited(err)
	if !ok {
		p.t.Fatalf("got %v, want to wait for layers", err)
	}
	return children
}

func ids(all []jobs.Job) (out []jobs.ID) {
	for _, j := range all {
		out = append(out, j.ID)
	}
	return out
}

// do runs a layer job to its end.
func (p *pool) do(j jobs.Job) jobs.Child {
	p.t.Helper()
	a, err := jobs.DecodeArgs[layerjob.Args](j.Args)
	if err != nil {
		p.t.Fatal(err)
	}
	r, err := p.Layer(p.t.Context(), a)
	if err != nil {
		p.t.Fatal(err)
	}
	raw, err := json.Marshal(r)
	if err != nil {
		p.t.Fatal(err)
	}
	return jobs.Child{Job: j, Record: jobs.Record{ID: j.ID, State: jobs.Done, Result: raw}}
}

func TestImagesShareLayerJobs(t *testing.T) {
	p := newPool(t)
	p.image("one", "two")
	one, two := p.waits(t.Context(), "one"), p.waits(t.Context(), "two")
	if d := cmp.Diff(ids(one), ids(two)); d != "" || len(one) != 2 {
		t.Errorf("jobs of the same layers in two repositories:\n%s", d)
	}
	children := map[jobs.ID]jobs.Child{}
	for _, j := range one {
		children[j.ID] = p.do(j)
	}
	for _, repo := range []string{"one", "two"} {
		r, err := p.Run(jobs.WithChildren(t.Context(), children), p.args(repo))
		if err != nil {
			t.Fatal(err)
		}
		alone := p.Handler
		alone.Spread, alone.SigningKey, alone.Trusted = false, nil, nil
		a := p.args(repo)
		a.Target, a.LedgerRepo = p.host+"/alone/"+repo+":erofs", ""
		want, err := alone.Run(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		if r.Descriptor.Digest != want.Descriptor.Digest {
			t.Errorf("%s: made of jobs %s, by one process %s", repo, r.Descriptor.Digest, want.Descriptor.Digest)
		}
	}
}

// A layer that the ledger has lost is converted here, however its job ended.
func TestLostLedgerEntry(t *testing.T) {
	p, gone := newPool(t), newPool(t)
	image, err := random.Image(1000, 1)
	if err != nil {
		t.Fatal(err)
	}
	p.push("one", image)
	gone.push("one", image)
	j := p.waits(t.Context(), "one")[0]
	done := gone.do(gone.waits(t.Context(), "one")[0]) // into another registry's ledger
	done.Job, done.Record.ID = j, j.ID
	if _, err := p.Run(jobs.WithChildren(t.Context(), map[jobs.ID]jobs.Child{j.ID: done}), p.args("one")); err != nil {
		t.Errorf("got %v", err)
	}
}

// How a layer job ended decides whether the image waits again, converts the layer
// itself, or gives up.
func TestLayerJobsThatAreNotDone(t *testing.T) {
	record := func(s jobs.State, f *jobs.Failure) jobs.Record { return jobs.Record{State: s, Failure: f} }
	for name, tc := range map[string]struct {
		record jobs.Record
		want   string // waits, here or fails
	}{
		"queued":             {record(jobs.Queued, nil), "waits"},
		"running again":      {record(jobs.Running, &jobs.Failure{Class: jobs.ClassTransient}), "waits"},
		"cancelled":          {record(jobs.Cancelled, nil), "waits"},
		"late":               {record(jobs.Failed, &jobs.Failure{Class: jobs.ClassPermanent, Kind: jobs.KindDeadlineExceeded}), "waits"},
		"another's source":   {record(jobs.Failed, &jobs.Failure{Class: jobs.ClassPermanent, Kind: jobs.KindNotFound}), "here"},
		"no ledger":          {record(jobs.Failed, &jobs.Failure{Class: jobs.ClassPermanent, Kind: jobs.KindPermissionDenied}), "here"},
		"registry away":      {record(jobs.Dead, &jobs.Failure{Class: jobs.ClassTransient, Kind: jobs.KindUnavailable}), "here"},
		"took workers along": {jobs.Record{State: jobs.Dead, Poisoned: 2, Failure: &jobs.Failure{Class: jobs.ClassPoison, Message: "handler panicked"}}, "fails"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPool(t)
			p.image("one")
			both := p.waits(t.Context(), "one")
			tc.record.ID = both[0].ID
			children := map[jobs.ID]jobs.Child{both[0].ID: {Job: both[0], Record: tc.record}, both[1].ID: p.do(both[1])}
			_, err := p.Run(jobs.WithChildren(t.Context(), children), p.args("one"))
			switch again, waits := jobs.Awaited(err); {
			case waits && (tc.want != "waits" || len(again) != 1 || again[0].ID != both[0].ID):
				t.Errorf("waits for %v, want %s", ids(again), tc.want)
			case !waits && (err == nil) != (tc.want == "here"):
				t.Errorf("got %v, want %s", err, tc.want)
			case tc.want == "fails" && (jobs.ClassOf(err) != jobs.ClassPermanent || !strings.Contains(err.Error(), "handler panicked")):
				t.Errorf("got %v, want the layer job's own failure, permanent", err)
			}
		})
	}
}

func TestLayerOfAnotherVersion(t *testing.T) {
	p := newPool(t)
	p.image("one")
	j := p.waits(t.Context(), "one")[0]
	a, err := jobs.DecodeArgs[layerjob.Args](j.Args)
	if err != nil {
		t.Fatal(err)
	}
	a.Job = json.RawMessage(strings.Replace(string(a.Job), `"writer":"`, `"writer":"x`, 1))
	_, err = p.Layer(t.Context(), a)
	if !errdefs.IsUnavailable(err) || jobs.ClassOf(run.Classify(err)) == jobs.ClassPermanent {
		t.Errorf("got %v, want that another worker may do it", err)
	}
}
