package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/spf13/pflag"
)

// A conversion in the pool ends with the code that it ends with here.
func TestExitCodesOfThePool(t *testing.T) {
	servePool(t)
	host, forbidden, gone := newRegistry(t), readOnlyRegistry(t), deadRegistry(t)
	old := pushImage(t, host+"/app:1", "linux", "amd64")
	pushImage(t, host+"/app:1", "linux", "amd64")
	pushImage(t, host+"/win:1", "windows", "amd64")
	for _, tc := range []struct {
		name     string
		src, dst string
		flags    []string
		want     int
		once     bool // submit would resolve the source itself, or make all attempts
	}{
		{name: "refused image", src: host + "/win:1", dst: host + "/win:2", want: 3},
		{name: "refused layer", src: host + "/app:1", dst: host + "/app:2", flags: []string{"--max-bytes", "1"}, want: 3},
		{name: "missing image", src: host + "/app:none", dst: host + "/app:2", want: 4, once: true},
		{name: "no access", src: host + "/app:1", dst: forbidden + "/app:2", want: 4},
		{name: "source away", src: gone + "/app:1", dst: host + "/app:2", want: 5, once: true},
		{name: "target away", src: host + "/app:1", dst: gone + "/app:2", want: 5, once: true},
		{name: "must not be moved", src: host + "/app:1", dst: host + "/app:1", want: 6},
		{name: "moved since", src: host + "/app:1@" + old.String(), dst: host + "/app:1", flags: []string{"--in-place"}, want: 6, once: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := append(tc.flags, "--insecure", tc.src, tc.dst)
			if code, _, stderr := lithify(t, append([]string{"convert"}, args...)...); code != tc.want {
				t.Errorf("convert: exit code %d, want %d: %s", code, tc.want, stderr)
			}
			if tc.once {
				err := waitOnce(t, args)
				if code := exitCode(t.Context(), err); code != tc.want {
					t.Errorf("in the pool: exit code %d, want %d: %v", code, tc.want, err)
				}
				return
			}
			if code, _, stderr := lithify(t, append([]string{"submit", "convert", "--wait"}, args...)...); code != tc.want {
				t.Errorf("submit: exit code %d, want %d: %s", code, tc.want, stderr)
			}
		})
	}
}

// waitOnce is submit convert --wait with a single attempt and an unresolved source.
func waitOnce(t *testing.T, args []string) error {
	t.Helper()
	var f convertFlags
	fs := pflag.NewFlagSet(t.Name(), pflag.ContinueOnError)
	f.add(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	args = fs.Args()
	a, err := f.args(args[0], args[1])
	if err != nil {
		t.Fatal(err)
	}
	job, err := jobs.New(a, jobs.Options{MaxAttempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	client, err := queue.Connect(t.Context(), queue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	return (&app{out: io.Discard, err: io.Discard}).send(t.Context(), client, job, &submission{wait: true})
}

func readOnlyRegistry(t *testing.T) string {
	t.Helper()
	inner := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			http.Error(w, `{"errors":[{"code":"DENIED","message":"read only"}]}`, http.StatusForbidden)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func deadRegistry(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(nil)
	s.Close()
	return strings.TrimPrefix(s.URL, "http://")
}

// Records of other versions, and errors that share a kind with a conflict.
func TestExitCodeOfRecords(t *testing.T) {
	failed := func(state jobs.State, c jobs.ErrorClass, k jobs.ErrorKind) error {
		return jobs.Record{State: state, Failure: &jobs.Failure{Class: c, Kind: k, Message: "boom"}, Reason: "because"}.Err()
	}
	for _, tc := range []struct {
		name string
		err  error
		want int
	}{
		{"permanent, of an older version", failed(jobs.Failed, jobs.ClassPermanent, ""), 3},
		{"dead, of an older version", failed(jobs.Dead, jobs.ClassTransient, ""), 5},
		{"permanent, of a newer version", failed(jobs.Failed, jobs.ClassPermanent, "entangled"), 3},
		{"dead, of a newer version", failed(jobs.Dead, jobs.ClassTransient, "entangled"), 5},
		{"dead, of an error without a kind", failed(jobs.Dead, jobs.ClassTransient, jobs.KindUnknown), 1},
		{"here, an error without a kind", errors.New("boom"), 1},
		{"bad certificate", failed(jobs.Failed, jobs.ClassPermanent, jobs.KindFailedPrecondition), 1},
		{"here, a bad certificate", fmt.Errorf("pull: %w", errdefs.ErrFailedPrecondition), 1},
		{"past its deadline", failed(jobs.Failed, jobs.ClassPermanent, jobs.KindDeadlineExceeded), 5},
		{"cancelled after a failed attempt", failed(jobs.Cancelled, jobs.ClassTransient, jobs.KindUnavailable), 1},
		{"cancelled before any", jobs.Record{State: jobs.Cancelled}.Err(), 1},
	} {
		if got := exitCode(t.Context(), tc.err); got != tc.want {
			t.Errorf("%s: exit code %d, want %d", tc.name, got, tc.want)
		}
	}
	if got := failed(jobs.Cancelled, jobs.ClassTransient, "").Error(); !strings.Contains(got, "because") {
		t.Errorf("cancelled: %q, want it to say why", got)
	}
}

func TestErrorsAsJSON(t *testing.T) {
	host, gone := newRegistry(t), deadRegistry(t)
	for _, tc := range []struct {
		name string
		args []string
		code int
		kind string
		says string
	}{
		{"missing image", []string{"convert", "-o", "json", "--insecure", host + "/app:none", host + "/app:2"}, 4, "not_found", "app:none"},
		{"registry away", []string{"--output=json", "convert", gone + "/app:1", host + "/app:2"}, 5, "unavailable", gone},
		{"no reference", []string{"convert", "-ojson", "--insecure", "./app", host + "/app:2"}, 2, "invalid_argument", "./app"},
		{"wrong arguments", []string{"convert", "-o", "json"}, 2, "", "SRC DST"},
		{"wrong flag", []string{"convert", "-o", "json", "--fast"}, 2, "", "--fast"},
		{"wrong command", []string{"-o", "json", "transmogrify"}, 2, "", "transmogrify"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, stdout, stderr := lithify(t, tc.args...)
			lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
			var got struct {
				Error string
				Code  int
				Kind  string
			}
			if err := json.Unmarshal([]byte(lines[len(lines)-1]), &got); err != nil {
				t.Fatalf("%v in %q", err, stderr)
			}
			if code != tc.code || got.Code != tc.code || got.Kind != tc.kind || !strings.Contains(got.Error, tc.says) || stdout != "" {
				t.Errorf("exit code %d, %+v, stdout %q, want %d, %q, something with %q", code, got, stdout, tc.code, tc.kind, tc.says)
			}
			if strings.Contains(stderr, "lithify: ") {
				t.Errorf("the error is there as text, too: %q", stderr)
			}
		})
	}
}

// What is wrong may stand before the wish for JSON.
func TestUsageErrorsAreJSON(t *testing.T) {
	for _, args := range [][]string{{"convert", "--bogus", "-o", "json"}, {"convert", "a", "--output=json"}, {"transmogrify", "-ojson"},
		{"convert", "--bogus", "-vo", "json", "a", "b"}, {"-o=json", "transmogrify"}} {
		code, _, stderr := lithify(t, args...)
		var line struct{ Error string }
		if err := json.Unmarshal([]byte(stderr), &line); err != nil || code != 2 || line.Error == "" {
			t.Errorf("%v: exit code %d, %q: %v", args, code, stderr, err)
		}
	}
	if _, _, stderr := lithify(t, "convert", "--bogus", "--", "-o", "json"); strings.HasPrefix(stderr, "{") {
		t.Errorf("JSON that nobody asked for: %s", stderr)
	}
}

// A second pool of the same user does not take the first one's context file away.
func TestSecondServe(t *testing.T) {
	servePool(t)
	code, _, stderr := lithify(t, "serve", "--dir", t.TempDir())
	if code != 1 || !strings.Contains(stderr, "LITHIFY_CONTEXT") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	if code, _, stderr := lithify(t, "jobs", "list"); code != 0 {
		t.Errorf("the first pool is not found any more: exit code %d, %q", code, stderr)
	}
}

func TestWatchEndsAsTheJobDid(t *testing.T) {
	servePool(t)
	host := newRegistry(t)
	pushImage(t, host+"/win:1", "windows", "amd64")
	code, id, stderr := lithify(t, "submit", "convert", "--insecure", host+"/win:1", host+"/win:2")
	if code != 0 {
		t.Fatal(stderr)
	}
	id = strings.TrimSpace(id)
	code, stdout, stderr := lithify(t, "jobs", "watch", id)
	if code != 3 || strings.Count(stderr, "Linux") != 1 {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
	// The attempt's error is told once, and the job's is that of the command.
	if strings.Count(stdout, "Linux") != 1 || !strings.HasSuffix(stdout, ": failed\n") {
		t.Errorf("history %q", stdout)
	}
	code, stdout, stderr = lithify(t, "jobs", "watch", "-o", "json", id)
	lines := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
	for i, line := range lines {
		var e queue.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.State.Ended() != (i == len(lines)-1) {
			t.Errorf("line %d is %q, %v", i, line, err)
		}
	}
	if code != 3 || len(lines) < 3 {
		t.Errorf("as JSON: exit code %d, %d lines; %s", code, len(lines), stderr)
	}
}
