package jobs_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lithify/lithify/jobs"
)

func TestTemplate(t *testing.T) {
	class := jobs.Class{Kind: "copy", OS: "linux", Arch: jobs.Any, Feature: jobs.Any}
	made, err := jobs.NewTemplate(copyArgs{Src: "a"}, jobs.Options{Class: class, Timeout: time.Hour, MaxAttempts: 2, Submitter: "alice", IdempotencyKey: "mine"})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(made)
	if err != nil {
		t.Fatal(err)
	}
	var stored jobs.Template
	if err := json.Unmarshal(raw, &stored); err != nil {
		t.Fatal(err)
	}
	job := func(key string) jobs.Job {
		t.Helper()
		j, err := stored.Job(key)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	a := job("nightly 1")
	if d := a.Deadline.Sub(a.Created); d != time.Hour {
		t.Errorf("got %v from creation to deadline", d)
	}
	got := []any{a.Kind, a.Class, a.MaxAttempts, a.Submitter, string(a.Args)}
	if want := []any{"copy", class, 2, "alice", string(made.Args)}; !cmp.Equal(got, want) {
		t.Error(cmp.Diff(got, want))
	}
	if again := job("nightly 1"); again.ID != a.ID || again.ArgsDigest != a.ArgsDigest {
		t.Errorf("one key made %s and %s", a.ID, again.ID)
	}
	if next := job("nightly 2"); next.ID == a.ID {
		t.Error("two keys made one job")
	}
}

func TestTemplateRefused(t *testing.T) {
	for name, a := range map[string]jobs.Args{"pure": layerArgs{}, "invalid": copyArgs{}} {
		if _, err := jobs.NewTemplate(a, jobs.Options{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
