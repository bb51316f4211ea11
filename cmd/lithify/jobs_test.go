package main

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lithify/lithify/jobs"
)

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
