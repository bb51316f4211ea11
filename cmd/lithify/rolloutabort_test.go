package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// An abort removes what a job may have made that nobody remembers, as the tenant's whose
// rollout it was.
func TestRolloutAbort(t *testing.T) {
	servePool(t)
	host := newRegistry(t)
	pushImage(t, host+"/app:1", "linux", "amd64")
	id := strings.TrimSpace(must(t, "submit", "rollout", "--insecure", "--tenant", "acme", "--node", "a,b", "--wave", "1", "--name", "web", host+"/app:1"))
	follow(t, id)
	client, err := queue.Connect(t.Context(), queue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	st, err := client.Get(t.Context(), jobs.ID(id))
	if err != nil || len(st.Children) != 1 {
		t.Fatalf("waits for %v: %v", st.Children, err)
	}
	must(t, "jobs", "cancel", string(st.Children[0]))
	lithify(t, "jobs", "watch", id)
	child, err := client.Get(t.Context(), st.Children[0])
	if err != nil {
		t.Fatal(err)
	}
	ended, err := client.Get(t.Context(), jobs.ID(id))
	if err == nil { // the rollout ended later than the server had the end of its restore
		_, _, err = client.Forget(t.Context(), ended.Updated, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Get(t.Context(), child.ID); !errdefs.IsNotFound(err) {
		t.Fatalf("the restore is not forgotten: %v", err)
	}

	var removals []struct{ ID, Tenant string }
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for t.Context().Err() == nil && len(removals) == 0 {
			_, out, _ := lithify(t, "jobs", "list", "--kind", "remove", "-o", "json")
			if err := json.Unmarshal([]byte(out), &removals); err != nil {
				t.Errorf("%v: %s", err, out)
				return
			}
		}
		for _, r := range removals {
			lithify(t, "jobs", "cancel", r.ID)
		}
	}()
	code, out, said := lithify(t, "rollout", "abort", "-o", "json", id)
	if code == 0 || out != "[]\n" || !strings.Contains(said, "web-1 on a may still run") || strings.Contains(said, "web-2") {
		t.Errorf("exit code %d, %q, %q", code, out, said)
	}
	<-stopped
	if len(removals) != 1 || removals[0].Tenant != "acme" {
		t.Errorf("removals %+v, want one that is acme's", removals)
	}
}
