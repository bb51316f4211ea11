package run_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/jobs"
	buildjob "github.com/lithify/lithify/jobs/build"
	"github.com/lithify/lithify/jobs/build/run"
	convertjob "github.com/lithify/lithify/jobs/convert"
)

// attempt runs an attempt of a build that is spread and gives the jobs that it waits for.
// Nothing is asked of an engine or a registry.
func attempt(t *testing.T, children map[jobs.ID]jobs.Child, platforms ...string) []jobs.Job {
	t.Helper()
	var mux jobs.Mux
	run.Handler{}.Register(&mux)
	args, err := json.Marshal(buildjob.Args{
		Context: "https://example.com/app.git", Platforms: platforms, Spread: true,
		Output: convertjob.Output{Target: "registry.example.com/app:1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = mux.Run(jobs.WithChildren(t.Context(), children), buildjob.Kind, args)
	waits, ok := jobs.Awaited(err)
	if !ok {
		t.Fatalf("%v, want to wait for jobs", err)
	}
	return waits
}

// TestSpread: each platform is built by a worker of it, also where there is one platform.
func TestSpread(t *testing.T) {
	for _, platforms := range [][]string{{"linux/arm64"}, {"linux/arm64", "linux/s390x"}} {
		parts := attempt(t, nil, platforms...)
		var classes []string
		for _, j := range parts {
			classes = append(classes, j.Class.OS+"/"+j.Class.Arch)
		}
		if got, want := strings.Join(classes, " "), strings.Join(platforms, " "); got != want {
			t.Errorf("of %s there are jobs for %s", want, got)
		}
	}
	part := attempt(t, nil, "linux/arm64")[0]
	built := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("built"), Size: 5}
	result, err := json.Marshal(run.Part{Descriptor: built})
	if err != nil {
		t.Fatal(err)
	}
	children := map[jobs.ID]jobs.Child{part.ID: {Job: part, Record: jobs.Record{ID: part.ID, State: jobs.Done, Result: result}}}
	last := attempt(t, children, "linux/arm64")
	if len(last) != 1 || last[0].Kind != convertjob.Kind || !strings.Contains(string(last[0].Args), built.Digest.String()) {
		t.Errorf("then it waits for %v, want the conversion of what was built", last)
	}
}
