package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/lithify/lithify/queue"
)

func TestCron(t *testing.T) {
	servePool(t)
	host := newRegistry(t)
	pushImage(t, host+"/app:1", "linux", "amd64")
	ok := func(args ...string) string { t.Helper(); return must(t, args...) }
	ok("cron", "add", "convert", "nightly", "30 3 * * *", "--timezone", "Europe/Zurich", "--insecure", host+"/app:1", host+"/app:2")
	id := strings.TrimSpace(ok("cron", "run", "nightly"))
	ok("jobs", "watch", id)
	// The tag is moved, and so is what it is converted to.
	was := ok("jobs", "get", id)
	pushImage(t, host+"/app:1", "linux", "amd64")
	again := strings.TrimSpace(ok("cron", "run", "nightly"))
	ok("jobs", "watch", again)
	if is := ok("jobs", "get", again); sourceDigest(t, is) == sourceDigest(t, was) {
		t.Errorf("both converted %s", sourceDigest(t, is))
	}
	list := ok("cron", "list")
	for _, want := range []string{"nightly", "30 3 * * *", "Europe/Zurich", again, "convert " + host + "/app:1 to " + host + "/app:2"} {
		if !strings.Contains(list, want) {
			t.Errorf("%q is not in the list:\n%s", want, list)
		}
	}
	ok("cron", "remove", "nightly")
	for _, tc := range []struct {
		name string
		args []string
		want int
		says string
	}{
		{"not there any more", []string{"cron", "run", "nightly"}, 4, "nightly"},
		{"bad schedule", []string{"cron", "add", "convert", "x", "every day", "--insecure", host + "/app:1", host + "/app:2"}, 2, "every day"},
		{"no time", []string{"cron", "add", "convert", "x", "@daily", "--timeout", "-1h", "--insecure", host + "/app:1", host + "/app:2"}, 2, "--timeout"},
		{"bad name", []string{"cron", "add", "convert", "x.y", "@daily", "--insecure", host + "/app:1", host + "/app:2"}, 2, "x.y"},
		{"no such tag", []string{"cron", "add", "convert", "x", "@daily", "--insecure", host + "/app:none", host + "/app:2"}, 4, "app:none"},
	} {
		if code, _, stderr := lithify(t, tc.args...); code != tc.want || !strings.Contains(stderr, tc.says) {
			t.Errorf("%s: exit code %d, want %d; %q", tc.name, code, tc.want, stderr)
		}
	}
}

func sourceDigest(t *testing.T, job string) string {
	t.Helper()
	var st queue.Status
	var r struct{ SourceDigest string }
	if err := json.Unmarshal([]byte(job), &st); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(st.Result, &r); err != nil {
		t.Fatal(err)
	}
	return r.SourceDigest
}
