package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// A rollout is paused and resumed by its ID; what shows it tells by whom and why.
func TestRolloutPause(t *testing.T) {
	servePool(t)
	host := newRegistry(t)
	pushImage(t, host+"/app:1", "linux", "amd64")
	id := strings.TrimSpace(must(t, "submit", "rollout", "--insecure", "--node", "a,b", "--wave", "1", "--name", "web", host+"/app:1"))
	follow(t, id)
	me := myName()
	if me == "" {
		t.Fatal("nobody runs this test")
	}
	said := must(t, "rollout", "pause", "--reason", "node a is odd", id)
	if !strings.HasPrefix(said, id+" is paused since ") || !strings.HasSuffix(said, " by "+me+": node a is odd\n") {
		t.Errorf("pause: %s", said)
	}
	if again := must(t, "rollout", "pause", "--reason", "for another reason", id); again != said {
		t.Errorf("paused again: %s, want %s", again, said)
	}
	if lines := strings.SplitAfter(must(t, "rollout", "status", id), "\n"); len(lines) != 6 || lines[0] != id+" is waiting\n" || lines[1] != said {
		t.Errorf("status: %q", lines)
	}
	var status struct {
		Paused struct{ By, Reason string }
	}
	if err := json.Unmarshal([]byte(must(t, "rollout", "status", "-o", "json", id)), &status); err != nil || status.Paused.By != me || status.Paused.Reason != "node a is odd" {
		t.Errorf("status: %+v, %v", status, err)
	}
	for _, args := range [][]string{{"jobs", "explain", id}, {"pool", "show"}} {
		if out := must(t, args...); !strings.Contains(out, "job "+id) || !strings.Contains(out, "node a is odd") {
			t.Errorf("%v: %s", args, out)
		}
	}

	must(t, "rollout", "resume", id)
	if out := must(t, "rollout", "status", id); strings.Contains(out, "paused") {
		t.Errorf("status: %s", out)
	}
	convert := strings.TrimSpace(must(t, "submit", "convert", "--insecure", host+"/app:1", host+"/out:1"))
	long := strings.Repeat("x", 401)
	for _, tc := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"rollout", "resume", id}, 1, "is waiting, and not paused"},
		{[]string{"rollout", "pause", "--reason", long, id}, 2, "the limit is 400"},
		{[]string{"rollout", "pause", convert}, 2, "is a convert and no rollout"},
		{[]string{"rollout", "resume", convert}, 2, "is a convert and no rollout"},
		{[]string{"rollout", "pause", "rollout-x"}, 4, "rollout-x"},
		{[]string{"rollout", "resume", "rollout-x"}, 4, "rollout-x"},
		{[]string{"rollout", "pause"}, 2, ""},
	} {
		if code, _, stderr := lithify(t, tc.args...); code != tc.code || !strings.Contains(stderr, tc.says) {
			t.Errorf("%v: exit code %d, want %d: %s", tc.args, code, tc.code, stderr)
		}
	}
	must(t, "jobs", "cancel", id)
	if code, _, stderr := lithify(t, "rollout", "pause", id); code != 1 || !strings.Contains(stderr, "is cancelled") {
		t.Errorf("pause of one that was cancelled: exit code %d, %s", code, stderr)
	}
}
