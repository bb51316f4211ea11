package main

import (
	"strings"
	"testing"

	"github.com/lithify/lithify/jobs"
	rolloutjob "github.com/lithify/lithify/jobs/rollout"
	"github.com/lithify/lithify/queue"
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
	// Nobody takes back what a cancelled rollout has restored, and who asks is told so.
	for _, args := range [][]string{{"jobs", "cancel", id}, {"rollout", "status", id}} {
		if code, _, stderr := lithify(t, args...); code != 0 || !strings.Contains(stderr, "lithify rollout abort "+id) {
			t.Errorf("%v: exit code %d, %s", args, code, stderr)
		}
	}
	if code, _, stderr := lithify(t, "rollout", "status", "convert-x"); code != 4 {
		t.Errorf("no such job: exit code %d, %s", code, stderr)
	}
}

// What a rollout has given up itself it has taken back; its deadline takes nothing back.
func TestTellLeft(t *testing.T) {
	for name, tc := range map[string]struct {
		kind   string
		record jobs.Record
		want   bool
	}{
		"past its deadline":         {rolloutjob.Kind, jobs.Record{State: jobs.Failed, Failure: &jobs.Failure{Kind: jobs.KindDeadlineExceeded}}, true},
		"cancelled":                 {rolloutjob.Kind, jobs.Record{State: jobs.Cancelled}, true},
		"given up":                  {rolloutjob.Kind, jobs.Record{State: jobs.Failed, Failure: &jobs.Failure{Kind: jobs.KindFailedPrecondition}}, false},
		"done":                      {rolloutjob.Kind, jobs.Record{State: jobs.Done}, false},
		"a conversion is cancelled": {"convert", jobs.Record{State: jobs.Cancelled}, false},
	} {
		var said strings.Builder
		a := &app{err: &said}
		if err := a.tellLeft(queue.Status{Job: jobs.Job{ID: "x", Kind: tc.kind}, Record: tc.record}); err != nil || (said.String() != "") != tc.want {
			t.Errorf("%s: %q, %v", name, said.String(), err)
		}
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
