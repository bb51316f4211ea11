package jobs_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lithify/lithify/jobs"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata")

// TestLife runs testdata/*.txt: blocks of edges, a line "----", the states they
// lead to. A file is one job. "@5m" sets the clock, counted from its creation.
func TestLife(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txt")
	if len(files) == 0 {
		t.Fatal("no scripts")
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			in, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			out := runScript(t, string(in))
			if *update {
				if err := os.WriteFile(f, []byte(out), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if diff := gocmp.Diff(out, string(in)); diff != "" {
				t.Errorf("-got +want:\n%s", diff)
			}
		})
	}
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func runScript(t *testing.T, in string) string {
	var rec jobs.Record
	var b strings.Builder
	now := epoch
	for block := range strings.SplitSeq(strings.TrimSpace(in), "\n\n") {
		edges, _, _ := strings.Cut(block, "\n----")
		fmt.Fprintf(&b, "%s\n----\n", edges)
		for line := range strings.SplitSeq(edges, "\n") {
			if strings.HasPrefix(line, "#") {
				continue
			}
			words := strings.Fields(line)
			if d, ok := strings.CutPrefix(words[0], "@"); ok {
				now = epoch.Add(duration(t, d))
				words = words[1:]
			}
			next, err := jobs.Next(rec, edge(t, words, now))
			if err != nil {
				fmt.Fprintln(&b, err)
				if !gocmp.Equal(next, rec, cmpopts.EquateEmpty()) {
					t.Errorf("%s: a refused edge changed the record", line)
				}
				continue
			}
			rec = next
			fmt.Fprintln(&b, show(rec))
		}
		b.WriteByte('\n')
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func edge(t *testing.T, w []string, now time.Time) jobs.Edge {
	arg := func(i int) string { return append(w, "", "", "")[i] }
	switch w[0] {
	case "open", "reopen":
		n, _ := strconv.Atoi(cmp.Or(arg(1), "3"))
		return jobs.Open{At: now, Force: w[0] == "reopen", Job: jobs.Job{ID: "convert-x", Class: jobs.Class{Kind: "convert", OS: "any", Arch: "any", Feature: "any"},
			MaxAttempts: n, Created: epoch, Deadline: epoch.Add(time.Hour)}}
	case "child":
		return jobs.Open{At: now, Job: jobs.Job{ID: "layer-x", Class: jobs.Class{Kind: "layer", OS: "any", Arch: "any", Feature: "any"}, Priority: jobs.Bulk,
			Parent: "convert-y", MaxAttempts: 3, Created: epoch, Deadline: epoch.Add(time.Hour)}}
	case "join":
		return jobs.Join{Priority: jobs.Priority(arg(1)), Direct: arg(2) == "direct", At: now}
	case "claim":
		message, _ := strconv.ParseUint(arg(2), 10, 64) // none: a record of an earlier version
		return jobs.Claim{Worker: arg(1), Message: message, Current: arg(3) == "current", Back: w[2:], At: now}
	case "doubt": // a claim by one that does not believe a last silence
		return jobs.Claim{Worker: arg(1), Back: w[2:], Doubt: 5 * time.Minute, At: now}
	case "finish":
		return jobs.Finish{Claim: 7, Result: json.RawMessage(arg(1)), At: now}
	case "fail":
		return jobs.Fail{Claim: 7, Failure: jobs.Failure{Class: jobs.ErrorClass(arg(1)), Message: "boom"}, Delay: duration(t, cmp.Or(arg(2), "0s")), At: now}
	case "wait":
		var children []jobs.ID
		for _, id := range w[1:] {
			children = append(children, jobs.ID(id))
		}
		return jobs.Wait{Claim: 7, Children: children, At: now}
	case "resume":
		return jobs.Resume{At: now}
	case "handback":
		return jobs.HandBack{Claim: 7, At: now}
	case "cancel":
		return jobs.Cancel{Reason: arg(1), At: now}
	case "expire":
		return jobs.Expire{At: now}
	case "extend": // for a pause that began so long after the epoch, by so much
		return jobs.Extend{Pause: epoch.Add(duration(t, arg(1))), By: duration(t, arg(2)), At: now}
	case "reject":
		return jobs.Reject{Message: arg(1), At: now}
	}
	t.Fatalf("unknown edge %q", w[0])
	return nil
}

func duration(t *testing.T, s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func show(r jobs.Record) string {
	s := fmt.Sprintf("%s generation=%d attempt=%d/%d", r.State, r.Generation, r.Attempt, r.MaxAttempts)
	if r.Priority != "" { // one that was opened by the scripts' "open" has none
		s += " " + string(r.Priority)
		if r.Direct {
			s += " direct"
		}
	}
	if r.Poisoned > 0 {
		s += fmt.Sprintf(" poisoned=%d", r.Poisoned)
	}
	if r.Worker != "" {
		s += " worker=" + r.Worker
	}
	for _, silence := range r.Silent {
		s += " silent=" + silence.Worker
	}
	if r.Waits > 0 {
		s += fmt.Sprintf(" waits=%d for=%v", r.Waits, r.Children)
	}
	if !r.NotBefore.IsZero() {
		s += " in=" + r.NotBefore.Sub(r.Updated).Round(time.Millisecond).String()
	}
	if !r.Extended.IsZero() {
		s += " until=" + r.Deadline.Sub(epoch).String()
	}
	if r.Result != nil {
		s += " result=" + string(r.Result)
	}
	if r.Failure != nil {
		kind := ""
		if r.Failure.Kind != "" {
			kind = "," + string(r.Failure.Kind)
		}
		s += fmt.Sprintf(" failure=%s%s(%s)", r.Failure.Class, kind, r.Failure.Message)
	}
	if r.Reason != "" {
		s += " reason=" + r.Reason
	}
	return s
}

func TestEdgeErrorNamesTheState(t *testing.T) {
	_, err := jobs.Next(jobs.Record{ID: "convert-x", State: jobs.Done}, jobs.Cancel{})
	e, ok := errors.AsType[*jobs.EdgeError](err)
	if !ok || e.From != jobs.Done {
		t.Errorf("got %v", err)
	}
}
