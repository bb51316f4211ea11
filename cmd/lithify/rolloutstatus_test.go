package main

import (
	"strings"
	"testing"
)

// A rollout to nodes of which no worker is there: the first wave is queued, the next wanted.
func TestRolloutStatus(t *testing.T) {
	servePool(t)
	host := newRegistry(t)
	pushImage(t, host+"/app:1", "linux", "amd64")
	id := strings.TrimSpace(must(t, "submit", "rollout", "--insecure", "--node", "a,b", "--wave", "1", "--name", "web", host+"/app:1"))
	follow(t, id)
	out := must(t, "rollout", "status", id)
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 4 || lines[0] != id+" is waiting" ||
		strings.Join(strings.Fields(lines[2]), " ") != "a web-1 queued -" || strings.Join(strings.Fields(lines[3]), " ") != "b web-2 wanted -" {
		t.Errorf("status: %s", out)
	}
	must(t, "jobs", "cancel", id)
	if code, _, stderr := lithify(t, "rollout", "status", "convert-x"); code != 4 {
		t.Errorf("no such job: exit code %d, %s", code, stderr)
	}
}

// follow waits until a job waits for others.
func follow(t *testing.T, id string) {
	t.Helper()
	for t.Context().Err() == nil {
		if strings.Contains(must(t, "jobs", "get", id), `"state": "waiting"`) {
			return
		}
	}
}
