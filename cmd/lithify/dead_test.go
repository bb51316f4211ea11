package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lithify/lithify/jobs"
	convertjob "github.com/lithify/lithify/jobs/convert"
	"github.com/lithify/lithify/queue"
)

// Digests and numbers do not make two errors of one.
func TestGroupDead(t *testing.T) {
	dead := func(id jobs.ID, kind, message string, poisoned int) jobs.Record {
		return jobs.Record{ID: id, State: jobs.Dead, Class: jobs.Class{Kind: kind}, Poisoned: poisoned, Updated: time.Unix(7, 0),
			Failure: &jobs.Failure{Message: message}}
	}
	got := groupDead([]jobs.Record{
		dead("convert-1", "convert", "tag is gone\nand more", 0),
		dead("convert-2", "convert", "GET sha256:0123456789abcdef: 503 after 4 tries", 0),
		dead("convert-3", "convert", "GET sha256:fedcba9876543210: 500 after 5 tries", 0),
		dead("layer-4", "layer", "GET sha256:fedcba9876543210: 500 after 5 tries", 0),
		dead("convert-5", "convert", "tag is gone", 2),
	})
	last := time.Unix(7, 0)
	want := []*deadGroup{
		{Kind: "convert", Error: "GET sha256:0123456789abcdef: 503 after 4 tries", Last: last, IDs: []jobs.ID{"convert-2", "convert-3"}},
		{Kind: "convert", Error: "tag is gone", Last: last, IDs: []jobs.ID{"convert-1"}},
		{Kind: "layer", Error: "GET sha256:fedcba9876543210: 500 after 5 tries", Last: last, IDs: []jobs.ID{"layer-4"}},
		{Kind: "convert", Error: "tag is gone", Quarantined: true, Last: last, IDs: []jobs.ID{"convert-5"}},
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("-got +want:\n%s", diff)
	}
}

func TestRetryCommand(t *testing.T) {
	servePool(t)
	host := newRegistry(t)
	pushImage(t, host+"/win:1", "windows", "amd64")
	code, id, stderr := lithify(t, "submit", "convert", "--insecure", host+"/win:1", host+"/win:2")
	if code != 0 {
		t.Fatal(stderr)
	}
	id = strings.TrimSpace(id)
	lithify(t, "jobs", "watch", id)
	for _, tc := range []struct {
		name string
		args []string
		want int
		says string
	}{
		{"nothing chosen", []string{"jobs", "retry"}, 2, "--state"},
		{"both", []string{"jobs", "retry", id, "--state", "failed"}, 2, "--state"},
		{"what is done", []string{"jobs", "retry", "--state", "done"}, 2, "done"},
		{"unknown", []string{"jobs", "retry", "convert-0"}, 4, "convert-0"},
		{"an ID, and which", []string{"jobs", "retry", id, "--error", "Solaris"}, 2, "--error"},
		{"an ID of a kind", []string{"jobs", "discard", id, "--kind", "layer"}, 2, "--kind"},
		{"no kind", []string{"jobs", "retry", "--state", "failed", "--kind", "Layer"}, 2, "is none of [build "},
		{"no kind listed", []string{"jobs", "list", "--kind", "layers"}, 2, "is none of [build "},
		{"counted for programs", []string{"jobs", "retry", "-o", "json", "--state", "failed"}, 0, `{
  "match": 1
}`},
		{"not dead", []string{"jobs", "discard", id}, 1, "is failed, not dead"},
		{"counted", []string{"jobs", "retry", "--state", "failed", "--error", "Linux"}, 0, "1 jobs match; --yes"},
		{"of another error", []string{"jobs", "retry", "--state", "failed", "--error", "Solaris"}, 0, "0 jobs match"},
		{"done", []string{"jobs", "retry", "--state", "failed", "--error", "Linux", "--yes"}, 0, id},
		{"none is dead", []string{"jobs", "dead"}, 0, "ERROR"},
		{"none to discard", []string{"jobs", "discard", "--all"}, 0, "0 jobs match"},
	} {
		if code, stdout, stderr := lithify(t, tc.args...); code != tc.want || !strings.Contains(stdout+stderr, tc.says) {
			t.Errorf("%s: exit code %d, want %d; %q %q", tc.name, code, tc.want, stdout, stderr)
		}
	}
	lithify(t, "jobs", "watch", id)
	if _, stdout, _ := lithify(t, "jobs", "get", id); !strings.Contains(stdout, `"generation": 2`) {
		t.Errorf("not opened again: %s", stdout)
	}
}

// What was discarded is off the list, and --all is about that list.
func TestDiscardAll(t *testing.T) {
	servePool(t)
	client, err := queue.Connect(t.Context(), queue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	die := func(name string) string {
		o := jobs.Options{MaxAttempts: 1, Class: jobs.Class{Kind: "convert", OS: "nowhere", Arch: jobs.Any, Feature: jobs.Any}}
		j, err := jobs.New(convertjob.Args{Source: "r.example/" + name, Output: convertjob.Output{Target: "r.example/to"}}, o)
		if err != nil {
			t.Fatal(err)
		}
		st, err := client.Submit(t.Context(), j)
		for _, e := range []func() jobs.Edge{
			func() jobs.Edge { return jobs.Claim{Worker: "w", At: time.Now()} },
			func() jobs.Edge {
				return jobs.Fail{Claim: st.Revision, Failure: jobs.Failure{Message: name}, At: time.Now()}
			},
		} {
			if err == nil {
				st, err = client.Apply(t.Context(), st, e())
			}
		}
		if err != nil || st.State != jobs.Dead {
			t.Fatal(st.State, err)
		}
		for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			if _, err := client.DeadLetter(t.Context(), j.ID); err == nil {
				return string(j.ID)
			} else if time.Now().After(end) {
				t.Fatal(err)
			}
		}
	}
	first, second := die("one"), die("two")
	for _, tc := range []struct{ args, want string }{
		{"--all", "2 jobs match; --yes will discard them\n"},
		{"--all --error one", "1 jobs match; --yes will discard them\n"},
		{"--all --kind layer", "0 jobs match; --yes will discard them\n"},
		{first, first + "\n"},
		{"--all", "1 jobs match; --yes will discard them\n"},
		{"--all --yes -o json", "[\n  \"" + second + "\"\n]\n"},
		{"--all", "0 jobs match; --yes will discard them\n"},
	} {
		if got := must(t, append([]string{"jobs", "discard"}, strings.Fields(tc.args)...)...); got != tc.want {
			t.Errorf("discard %s: %q, want %q", tc.args, got, tc.want)
		}
	}
}
