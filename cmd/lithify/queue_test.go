package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lithify/lithify/queue"
)

// TestQueueExportImport moves a pool from one directory to another: a job that is
// done and one that nobody ran.
func TestQueueExportImport(t *testing.T) {
	home := t.TempDir()
	t.Setenv("LITHIFY_CONTEXT", filepath.Join(home, "context.json"))
	from, to, file := filepath.Join(home, "from"), filepath.Join(home, "to"), filepath.Join(home, "pool.jsonl")
	host := newRegistry(t)
	pushImage(t, host+"/app:1", "linux", "amd64")
	ok := func(args ...string) string { t.Helper(); return must(t, args...) }
	fails := func(want int, says string, args ...string) {
		t.Helper()
		if code, stdout, stderr := lithify(t, args...); code != want || !strings.Contains(stderr, says) || stdout != "" {
			t.Errorf("%v: exit code %d, want %d; %q %q, want it to say %q", args, code, want, stdout, stderr, says)
		}
	}
	fails(4, "no pool is stored in", "queue", "export", "--dir", from, file)

	stop := serve(t, from)
	done := strings.TrimSpace(ok("submit", "convert", "--insecure", host+"/app:1", host+"/app:2"))
	ok("jobs", "watch", done)
	stop()
	stop = serve(t, from, "--slots", "0")
	waits := strings.TrimSpace(ok("submit", "convert", "--insecure", host+"/app:1", host+"/app:3"))
	ok("cron", "add", "convert", "nightly", "30 3 * * *", "--insecure", host+"/app:1", host+"/app:4")
	fails(5, "in use", "queue", "export", "--dir", from, file)
	stop()

	var was queue.Contents
	if err := json.Unmarshal([]byte(ok("queue", "export", "-o", "json", "--dir", from, file)), &was); err != nil || was.Jobs < 2 || was.Timetables != 1 {
		t.Fatalf("exported %+v, %v", was, err)
	}
	fails(1, "exists", "queue", "export", "--dir", from, file)
	if again := ok("queue", "export", "--dir", from, "-"); strings.Count(again, "\n") != strings.Count(read(t, file), "\n") {
		t.Errorf("to stdout it is %q", again)
	}

	cut := filepath.Join(home, "cut.jsonl")
	if err := os.WriteFile(cut, []byte(read(t, file)[:1000]), 0o600); err != nil {
		t.Fatal(err)
	}
	fails(2, "--nats or --dir", "queue", "import", file)
	fails(2, "exclude each other", "queue", "import", "--dir", to, "--nats", "n1", file)
	fails(2, "exclude each other", "queue", "export", "--dir", from, "--nats", "n1", file)
	fails(2, "--replicas", "queue", "import", "--dir", to, "--replicas", "-1", file)
	fails(2, "no archive", "queue", "import", "--dir", to, filepath.Join(from, "keys.json"))
	fails(1, "cut off", "queue", "import", "--dir", to, cut)
	if _, err := os.Stat(to); err == nil {
		t.Error("a file that was cut off made a store")
	}

	// The store's key goes with it, as it signed the results.
	if err := os.Mkdir(to, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, "client.nk"), []byte(read(t, filepath.Join(from, "client.nk"))), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := ok("queue", "import", "--dir", to, file); !strings.Contains(got, "imported "+was.String()+"; 0 of them") {
		t.Errorf("%q", got)
	}
	var im queue.Imported
	if err := json.Unmarshal([]byte(ok("queue", "import", "-o", "json", "--dir", to, file)), &im); err != nil || im.Contents != was || im.Present == 0 {
		t.Errorf("again: %+v, %v", im, err)
	}
	stop = serve(t, to)
	ok("jobs", "watch", waits)
	ok("jobs", "watch", done)
	if got := ok("cron", "list"); !strings.Contains(got, "nightly") {
		t.Errorf("timetables: %q", got)
	}
	stop()
	code, stdout, stderr := lithify(t, "queue", "import", "--dir", to, file)
	if code != 1 || !strings.Contains(stderr, "job "+waits) || strings.Contains(stderr, done) || stdout == "" {
		t.Errorf("over a pool that went on: exit code %d, %q, %q", code, stdout, stderr)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
