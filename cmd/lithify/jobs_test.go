package main

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lithify/lithify/jobs"
	convertjob "github.com/lithify/lithify/jobs/convert"
	"github.com/lithify/lithify/queue"
)

// A child that only a later version can read does not keep its parent from being shown.
func TestJobsGetOfAParentOfAnUnreadableChild(t *testing.T) {
	servePool(t)
	client, err := queue.Connect(t.Context(), queue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	j, err := jobs.New(convertjob.Args{Source: "r.example/a", Output: convertjob.Output{Target: "r.example/b"}},
		jobs.Options{Class: jobs.Class{Kind: "convert", OS: "nowhere", Arch: jobs.Any, Feature: jobs.Any}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.JetStream().Publish(t.Context(), "st.layer.later.run", []byte(`{"id":"layer-later","state":"dreaming"}`)); err != nil {
		t.Fatal(err)
	}
	st, err := client.Submit(t.Context(), j)
	if err == nil {
		st, err = client.Apply(t.Context(), st, jobs.Claim{Worker: "w", At: time.Now()})
	}
	if err == nil {
		_, err = client.Apply(t.Context(), st, jobs.Wait{Claim: st.Revision, Children: []jobs.ID{"layer-later"}, At: time.Now()})
	}
	if err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := lithify(t, "jobs", "get", string(j.ID))
	if code != 0 || !strings.Contains(stdout, `"state": "waiting"`) || !strings.Contains(stderr, "dreaming") {
		t.Errorf("exit code %d, %s, %s", code, stdout, stderr)
	}
}

// TestJobsGetProgress: an image shows how its layers stand.
func TestJobsGetProgress(t *testing.T) {
	home := t.TempDir()
	t.Setenv("LITHIFY_CONTEXT", filepath.Join(home, "context.json"))
	host := newRegistry(t)
	pushImage(t, host+"/app:1", "linux", "amd64")
	stop := serve(t, filepath.Join(home, "store"))
	defer stop()
	id := strings.TrimSpace(must(t, "submit", "convert", "--insecure", host+"/app:1", host+"/app:2"))
	must(t, "jobs", "watch", id)
	var got struct {
		ID       string
		State    jobs.State
		Progress map[jobs.State]int
	}
	if err := json.Unmarshal([]byte(must(t, "jobs", "get", id)), &got); err != nil {
		t.Fatal(err)
	}
	if want := map[jobs.State]int{jobs.Done: 2}; got.ID != id || got.State != jobs.Done || !maps.Equal(got.Progress, want) {
		t.Errorf("got %+v, want progress %v", got, want)
	}
}
