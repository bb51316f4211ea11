package main

import (
	"strings"
	"testing"
)

func TestPoolControls(t *testing.T) {
	servePool(t)
	host := newRegistry(t)
	pushImage(t, host+"/app:1", "linux", "amd64")
	for _, tc := range []struct {
		name string
		args []string
		want int
		says []string
	}{
		{"pause a kind", []string{"pool", "pause", "--kind", "convert", "--reason", "disk swap"}, 0, nil},
		{"a tenant", []string{"pool", "tenant", "nightly", "--weight", "3", "--max-in-flight", "5"}, 0, nil},
		{"a registry", []string{"pool", "registry", host, "--concurrency", "2", "--rate", "7.5"}, 0, nil},
		{"shown", []string{"pool", "show"}, 0, []string{"kind convert", "disk swap", "nightly", "weight 3", "at most 5", host, "at most 7.5"}},
		{"Docker Hub", []string{"pool", "registry", "docker.io", "--concurrency", "3"}, 0, nil},
		{"Docker Hub paused", []string{"pool", "pause", "--registry", "docker.io"}, 0, nil},
		{"shown as jobs have it", []string{"pool", "show"}, 0, []string{"registry  index.docker.io", "at most 3 jobs", "registry index.docker.io  since"}},
		{"Docker Hub resumed", []string{"pool", "resume", "--registry", "docker.io"}, 0, nil},
		{"no registry", []string{"pool", "registry", "https://registry.example.com", "--rate", "1"}, 2, []string{"HOST[:PORT]"}},
		{"no kind", []string{"pool", "pause", "--kind", "convrt"}, 2, []string{"convrt", "layer"}},
		{"two selectors", []string{"pool", "pause", "--kind", "a", "--tenant", "b"}, 2, []string{"exclude"}},
		{"no weight", []string{"pool", "tenant", "x", "--weight", "0"}, 2, []string{"--weight"}},
		{"no tenant's name", []string{"pool", "tenant", "a b", "--weight", "2"}, 2, []string{"a b"}},
		{"nor that of a pause", []string{"pool", "pause", "--tenant", "a b"}, 2, []string{"a b"}},
		{"no job's ID", []string{"jobs", "explain", "nope"}, 2, []string{"nope"}},
		{"nor that of one to retry", []string{"jobs", "retry", "nope"}, 2, []string{"nope"}},
		{"not paused", []string{"pool", "resume", "--tenant", "x"}, 2, []string{"tenant x is not paused"}},
		{"bad priority", []string{"submit", "convert", "--insecure", "--priority", "high", host + "/app:1", host + "/app:2"}, 2, []string{"interactive"}},
		{"bad tenant", []string{"submit", "convert", "--insecure", "--tenant", "a.b", host + "/app:1", host + "/app:2"}, 2, []string{"a.b"}},
		{"at and delay", []string{"submit", "convert", "--insecure", "--at", "2027-01-01T00:00:00Z", "--delay", "1m", host + "/app:1", host + "/app:2"}, 2, []string{"--delay"}},
		{"delay below zero", []string{"submit", "convert", "--insecure", "--delay", "-1s", host + "/app:1", host + "/app:2"}, 2, []string{"--delay -1s is below zero"}},
		{"no timeout", []string{"submit", "convert", "--insecure", "--timeout", "0", host + "/app:1", host + "/app:2"}, 2, []string{"--timeout 0s is not above zero"}},
		{"bad time", []string{"submit", "convert", "--insecure", "--at", "tomorrow", host + "/app:1", host + "/app:2"}, 2, []string{"tomorrow"}},
	} {
		code, stdout, stderr := lithify(t, tc.args...)
		if code != tc.want {
			t.Errorf("%s: exit code %d, want %d: %s", tc.name, code, tc.want, stderr)
		}
		for _, word := range tc.says {
			if !strings.Contains(stdout+stderr, word) {
				t.Errorf("%s: %q is not in %q %q", tc.name, word, stdout, stderr)
			}
		}
	}
	code, id, stderr := lithify(t, "submit", "convert", "--insecure", "--tenant", "nightly", host+"/app:1", host+"/app:2")
	if code != 0 {
		t.Fatal(stderr)
	}
	id = strings.TrimSpace(id)
	if _, stdout, _ := lithify(t, "jobs", "explain", id); !strings.Contains(stdout, "kind convert is paused") || !strings.Contains(stdout, "disk swap") {
		t.Errorf("explained: %q", stdout)
	}
	if code, _, stderr := lithify(t, "pool", "resume", "--kind", "convert"); code != 0 {
		t.Fatal(stderr)
	}
	if code, _, stderr := lithify(t, "jobs", "watch", id); code != 0 {
		t.Error(stderr)
	}
	code, id, stderr = lithify(t, "submit", "convert", "--insecure", "--delay", "1h", host+"/app:1", host+"/app:3")
	if code != 0 {
		t.Fatal(stderr)
	}
	if _, stdout, _ := lithify(t, "jobs", "explain", strings.TrimSpace(id)); !strings.Contains(stdout, "not to run before") {
		t.Errorf("explained: %q", stdout)
	}
}
