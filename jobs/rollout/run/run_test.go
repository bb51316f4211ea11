package run_test

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/lithify/lithify/jobs"
	restorejob "github.com/lithify/lithify/jobs/restore"
	rolloutjob "github.com/lithify/lithify/jobs/rollout"
	"github.com/lithify/lithify/jobs/rollout/run"
)

// play runs a rollout as a pool does that has every job run that is waited for, but those
// that are done. Those of names in bad fail. It gives the jobs of each wait, and the end.
func play(t *testing.T, a rolloutjob.Args, bad ...string) (waits []string, result *run.Result, err error) {
	t.Helper()
	ctx := jobs.WithID(t.Context(), "rollout-1")
	var children map[jobs.ID]jobs.Child
	for {
		result, err = run.Run(jobs.WithChildren(ctx, children), a)
		awaited, ok := jobs.Awaited(err)
		if !ok {
			return waits, result, err
		}
		next := map[jobs.ID]jobs.Child{}
		for _, id := range jobs.Known(err) {
			if _, ok := children[id]; !ok {
				t.Fatalf("it wants to know of %s, for which it has not waited", id)
			}
			next[id] = children[id]
		}
		var ran []string
		for _, j := range awaited {
			if _, ok := next[j.ID]; ok {
				t.Fatalf("it waits again for %s", j.ID)
			}
			var args struct{ Name, Node string }
			if err := json.Unmarshal(j.Args, &args); err != nil {
				t.Fatal(err)
			}
			r := jobs.Record{State: jobs.Done}
			if slices.Contains(bad, args.Name) || slices.Contains(bad, j.Kind+" "+args.Name) {
				r = jobs.Record{State: jobs.Failed, Failure: &jobs.Failure{Message: "no CRIU"}}
			}
			next[j.ID] = jobs.Child{Job: j, Record: r}
			ran = append(ran, j.Kind+" "+args.Name+"@"+args.Node)
		}
		waits, children = append(waits, strings.Join(ran, " ")), next
	}
}

func TestRollout(t *testing.T) {
	base := rolloutjob.Args{
		Restore:  restorejob.Args{Source: "r.example.com/web:saved", Name: "web"},
		Nodes:    []string{"a", "b"},
		Replicas: 5, Canary: 1, Wave: 2,
	}
	set := func(a *rolloutjob.Args) {
		a.Replicas, a.Canary, a.Wave = 2, 0, 1
		for _, c := range []string{"db", "fe"} {
			a.Set = append(a.Set, rolloutjob.Member{Container: c, Checkpoint: digest.FromString(c)})
		}
	}
	waves := []string{"restore web-1@a", "restore web-2@b restore web-3@a", "restore web-4@b restore web-5@a"}
	for _, tc := range []struct {
		name   string
		change func(*rolloutjob.Args)
		bad    []string
		waits  []string
		failed int    // of a rollout that succeeds
		err    string // of one that does not
	}{
		{"all", func(*rolloutjob.Args) {}, nil, waves, 0, ""},
		{"one may fail", func(a *rolloutjob.Args) { a.MaxFailed = 1 }, []string{"web-2"}, waves, 1, ""},
		{"one in each wave", func(a *rolloutjob.Args) { a.MaxFailed = 1 }, []string{"web-2", "web-4"},
			append(slices.Clone(waves), "remove web-1@a remove web-3@a remove web-5@a"), 0, "web-2 on b: no CRIU; web-4 on b: no CRIU; containers removed again: 3"},
		{"canary", func(*rolloutjob.Args) {}, []string{"web-1"}, waves[:1], 0, "no CRIU; containers removed again: 0"},
		{"taken back", func(*rolloutjob.Args) {}, []string{"web-3"},
			append(slices.Clone(waves[:2]), "remove web-1@a remove web-2@b"), 0, "after 3 of 5 replicas: 1 failed, and 0 may: web-3 on a: no CRIU; containers removed again: 2"},
		{"cannot be taken back", func(*rolloutjob.Args) {}, []string{"web-3", "remove web-2"},
			append(slices.Clone(waves[:2]), "remove web-1@a remove web-2@b"), 0, "removed again: 1, and perhaps still running: web-2 on b: no CRIU"},
		{"kept", func(a *rolloutjob.Args) { a.Keep = true }, []string{"web-3"}, waves[:2], 0, "containers removed again: 0, left running: 2"},
		{"at once", func(a *rolloutjob.Args) { *a = rolloutjob.Args{Restore: a.Restore, Nodes: a.Nodes} }, nil, []string{"restore web-1@a restore web-2@b"}, 0, ""},
		{"so many must run", func(a *rolloutjob.Args) { a.MinHealthy = 4 }, []string{"web-2"}, waves, 1, ""},
		{"unavailable", func(a *rolloutjob.Args) { a.MaxFailed, a.MaxUnavailable, a.Wave = 1, 2, 0 }, []string{"web-2"},
			[]string{"restore web-1@a", "restore web-2@b restore web-3@a", "restore web-4@b", "restore web-5@a"}, 1, ""},
		{"set", set, nil, []string{"restore web-1-db@a restore web-1-fe@a", "restore web-2-db@b restore web-2-fe@b"}, 0, ""},
		{"half of a replica", func(a *rolloutjob.Args) { set(a); a.MaxFailed = 1 }, []string{"web-1-fe"},
			[]string{"restore web-1-db@a restore web-1-fe@a", "restore web-2-db@b restore web-2-fe@b remove web-1-db@a"}, 1, ""},
		{"half of the last", func(a *rolloutjob.Args) { set(a); a.MaxFailed = 1 }, []string{"web-2-db"},
			[]string{"restore web-1-db@a restore web-1-fe@a", "restore web-2-db@b restore web-2-fe@b", "remove web-2-fe@b"}, 1, ""},
		{"a set taken back", set, []string{"web-2-db"},
			[]string{"restore web-1-db@a restore web-1-fe@a", "restore web-2-db@b restore web-2-fe@b", "remove web-1-db@a remove web-1-fe@a remove web-2-fe@b"}, 0,
			"1 failed, and 0 may: web-2-db on b: no CRIU; containers removed again: 3"},
		{"a set kept", func(a *rolloutjob.Args) { set(a); a.Keep = true }, []string{"web-2-db"},
			[]string{"restore web-1-db@a restore web-1-fe@a", "restore web-2-db@b restore web-2-fe@b", "remove web-2-fe@b"}, 0, "containers removed again: 1, left running: 2"},
		{"all of a wave", func(a *rolloutjob.Args) { a.MaxFailed = 2 }, []string{"web-2", "web-3"}, waves, 2, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := base
			tc.change(&a)
			waits, result, err := play(t, a, tc.bad...)
			if diff := cmp.Diff(tc.waits, waits); diff != "" {
				t.Errorf("waits (-want +got):\n%s", diff)
			}
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) || jobs.ClassOf(err) != jobs.ClassPermanent {
					t.Errorf("got %v, want a permanent error with %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if n := len(result.Containers) + result.Failed; result.Failed != tc.failed || n != a.Total()*max(len(a.Set), 1)-result.Failed*(max(len(a.Set), 1)-1) {
				t.Errorf("got %+v, want %d failed", result, tc.failed)
			}
		})
	}
}

// Programs read a list, also if there is nothing in it.
func TestNothingRestored(t *testing.T) {
	a := rolloutjob.Args{Restore: restorejob.Args{Source: "r.example.com/web:saved", Name: "web"}, Nodes: []string{"a"}, MaxFailed: 1}
	_, result, err := play(t, a, "web-1")
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := json.Marshal(result); err != nil || !strings.HasPrefix(string(raw), `{"containers":[],"failed":1,`) {
		t.Errorf("%s, %v", raw, err)
	}
}

// The record of a large rollout that fails stays small.
func TestReasonsAreBounded(t *testing.T) {
	a := rolloutjob.Args{Restore: restorejob.Args{Source: "r.example.com/web:saved", Name: "web"}, Nodes: []string{"a", "b"}, Replicas: 300}
	var bad []string
	for i := range 300 {
		bad = append(bad, fmt.Sprintf("web-%d", i+1))
	}
	_, _, err := play(t, a, bad...)
	if err == nil || len(err.Error()) > 10_000 || !strings.Contains(err.Error(), "300 failed") || !strings.Contains(err.Error(), "and 280 others") {
		t.Errorf("got %v", err)
	}
}

// An attempt that dies before it waits is made again, and must not restore anything twice.
func TestSameJobsEachTime(t *testing.T) {
	a := rolloutjob.Args{Restore: restorejob.Args{Source: "r.example.com/web:saved", Name: "web"}, Nodes: []string{"a"}, Replicas: 3}
	ids := func(rollout jobs.ID) (ids []jobs.ID) {
		_, err := run.Run(jobs.WithID(t.Context(), rollout), a)
		awaited, _ := jobs.Awaited(err)
		for _, j := range awaited {
			ids = append(ids, j.ID)
		}
		return ids
	}
	first := ids("rollout-1")
	if diff := cmp.Diff(first, ids("rollout-1")); diff != "" || len(first) != 3 {
		t.Errorf("%d jobs, and others the second time:\n%s", len(first), diff)
	}
	if slices.Contains(ids("rollout-2"), first[0]) {
		t.Error("another rollout has the same jobs")
	}
}

func TestValidate(t *testing.T) {
	good := rolloutjob.Args{Restore: restorejob.Args{Source: "r.example.com/web:saved", Name: "web"}, Nodes: []string{"a"}}
	for want, change := range map[string]func(*rolloutjob.Args){
		"":              func(*rolloutjob.Args) {},
		"name":          func(a *rolloutjob.Args) { a.Restore.Name = "" },
		"nodes are":     func(a *rolloutjob.Args) { a.Nodes = nil },
		"each has":      func(a *rolloutjob.Args) { a.Nodes = []string{"a", ""} },
		"below zero":    func(a *rolloutjob.Args) { a.MaxFailed = -1 },
		"too many for":  func(a *rolloutjob.Args) { a.Replicas = jobs.MaxChildren + 1 },
		"16 waves are":  func(a *rolloutjob.Args) { a.Replicas, a.Wave = 16, 1 },
		"dots, dashes":  func(a *rolloutjob.Args) { a.Restore.Name, a.Replicas = strings.Repeat("a", 74), 10 },
		"hostname":      func(a *rolloutjob.Args) { a.Restore.Hostname, a.Replicas = strings.Repeat("a", 62), 10 },
		"say the same":  func(a *rolloutjob.Args) { a.MaxFailed, a.MinHealthy, a.Replicas = 1, 1, 3 },
		"cannot run of": func(a *rolloutjob.Args) { a.MinHealthy = 2 },
		"no next wave":  func(a *rolloutjob.Args) { a.Replicas, a.MaxFailed, a.MaxUnavailable = 5, 2, 2 },
		"20 waves are":  func(a *rolloutjob.Args) { a.Replicas, a.MaxFailed, a.MaxUnavailable = 20, 2, 3 },
		"667 replicas":  func(a *rolloutjob.Args) { a.Replicas, a.Set = 667, make([]rolloutjob.Member, 3) },
		"of 2 contain": func(a *rolloutjob.Args) {
			a.Replicas, a.Wave, a.Set = math.MaxInt/2+1, math.MaxInt/64, make([]rolloutjob.Member, 2)
		},
		"bound to no n": func(a *rolloutjob.Args) { a.Restore.Node = "a" },
	} {
		a := good
		change(&a)
		_, err := jobs.New(a, jobs.Options{})
		if (err == nil) != (want == "") || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%+v: got %v, want an error with %q", a, err, want)
		}
	}
}
