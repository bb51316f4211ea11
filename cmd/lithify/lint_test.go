package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/lithify/lithify/convert/lint"
)

// TestLint looks at what is made here in either dialect, at what has no variant, and at the rules.
func TestLint(t *testing.T) {
	hub := newCounting(t)
	hub.push(t, threeLayers(t), "app:1")
	must(t, "convert", "--platform", "linux/amd64", hub.host+"/app:1", hub.host+"/app:legacy")
	must(t, "convert", "--dialect", "spec", "--profile", "erofs+zstd", "--platform", "linux/amd64", hub.host+"/app:1", hub.host+"/app:spec")
	if got := must(t, "lint", "--strict", "--deep", hub.host+"/app:spec"); got != "1 variants, 3 layers: 0 MUST, 0 SHOULD\n" {
		t.Errorf("spec: %q", got)
	}
	got := must(t, "lint", hub.host+"/app:legacy")
	if lines := strings.Split(got, "\n"); len(lines) != 3 || !strings.HasPrefix(lines[0], "NOTE  2.1  legacy-dialect  linux(+erofs)/amd64  ") || lines[1] != "1 variants, 3 layers: 0 MUST, 0 SHOULD" {
		t.Errorf("legacy: %q", got)
	}
	var r lint.Report
	if err := json.Unmarshal([]byte(must(t, "lint", "-o", "json", hub.host+"/app:spec")), &r); err != nil || r.Variants != 1 || r.Findings == nil {
		t.Errorf("as JSON: %+v, %v", r, err)
	}
	rules := must(t, "lint", "--rules")
	for _, want := range []string{"SHOULD  6 ", "MUST    3.6 ", "not checked: it takes two images"} {
		if !strings.Contains(rules, want) {
			t.Errorf("rules lack %q:\n%s", want, rules)
		}
	}
	if n := strings.Count(rules, "\n"); n != len(lint.Rules()) {
		t.Errorf("%d lines for %d rules", n, len(lint.Rules()))
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"lint", hub.host + "/app:1"}, 3, "no EROFS variant"},
		{[]string{"lint", "--platform", "linux/arm64", hub.host + "/app:spec"}, 3, "no EROFS variant"},
		{[]string{"lint", "--platform", "?", hub.host + "/app:spec"}, 2, "?"},
		{[]string{"lint", "--rules", hub.host + "/app:spec"}, 2, "lint"},
		{[]string{"lint", hub.host + "/app:none"}, 4, "app:none"},
	} {
		if code, _, stderr := lithify(t, c.args...); code != c.code || !strings.Contains(stderr, c.says) {
			t.Errorf("%q: exit code %d, want %d; %q, want it to name %q", c.args, code, c.code, stderr, c.says)
		}
	}
}
