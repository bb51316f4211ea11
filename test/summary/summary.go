package main

import (
	"cmp"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// test names one test, or with an empty name a whole package.
type test struct{ pkg, name string }

func (t test) String() string { return strings.TrimSpace(t.pkg + " " + t.name) }

type outcome struct {
	test
	output string
}

// summary is what has been read so far. Only tests without subtests count.
type summary struct {
	output          map[test]*strings.Builder
	parents         map[test]bool
	running         map[test]bool // packages too
	builds          map[string]*strings.Builder
	results         []event
	elapsed         map[string]float64
	passed          int
	failed, skipped []outcome
}

func newSummary() *summary {
	return &summary{
		output:  map[test]*strings.Builder{},
		parents: map[test]bool{},
		running: map[test]bool{},
		builds:  map[string]*strings.Builder{},
		elapsed: map[string]float64{},
	}
}

func (s *summary) add(e event) {
	t := test{e.Package, e.Test}
	switch e.Action {
	case "start", "run":
		s.running[t] = true
		for i := strings.LastIndexByte(t.name, '/'); i > 0; i = strings.LastIndexByte(t.name[:i], '/') {
			s.parents[test{t.pkg, t.name[:i]}] = true
		}
	case "output":
		buffer(s.output, t).WriteString(e.Output)
	case "build-output":
		buffer(s.builds, e.ImportPath).WriteString(e.Output)
	case "pass", "fail", "skip":
		s.results = append(s.results, e)
		delete(s.running, t)
		if e.Test == "" {
			s.elapsed[e.Package] += e.Elapsed
		}
		if e.Action == "pass" {
			delete(s.output, t)
		}
	}
}

// settle sorts the results, now that parents are known.
func (s *summary) settle() {
	blamed := map[string]bool{}
	for _, e := range s.results {
		t := test{e.Package, e.Test}
		switch {
		case e.Test == "":
		case e.Action == "pass" && !s.parents[t]:
			s.passed++
		case e.Action == "skip" && !s.parents[t]:
			s.skipped = append(s.skipped, outcome{t, reason(s.text(t))})
		case e.Action == "fail":
			blamed[e.Package] = true
			if own := s.text(t); !s.parents[t] || complains(own) {
				s.failed = append(s.failed, outcome{t, own})
			}
		}
	}
	for t := range s.running {
		// Go itself ended before this package did.
		if t.name == "" {
			s.results = append(s.results, event{Action: "fail", Package: t.pkg})
		}
	}
	for _, e := range s.results {
		// A package that does not build, panics or exits has no failed test.
		if e.Action == "fail" && e.Test == "" && !blamed[e.Package] {
			text := s.text(test{pkg: e.Package})
			if b := s.builds[e.FailedBuild]; b != nil {
				text = b.String() + text
			}
			s.failed = append(s.failed, outcome{test{pkg: e.Package}, text + s.unfinished(e.Package)})
		}
	}
}

// unfinished names the tests of a package that ended in the middle of them.
func (s *summary) unfinished(pkg string) string {
	var names []string
	for t := range s.running {
		if t.pkg == pkg && t.name != "" {
			names = append(names, t.name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return fmt.Sprintf("ended in the middle of %s\n", strings.Join(names, ", "))
}

func (s *summary) print(w io.Writer) {
	s.settle()
	for _, o := range s.failed {
		fmt.Fprintf(w, "\nFAILED %s\n%s", o.test, o.output)
	}
	if len(s.skipped) > 0 {
		fmt.Fprintln(w, "\nskipped:")
	}
	for _, o := range s.skipped {
		fmt.Fprintf(w, "  %s: %s\n", strings.TrimPrefix(o.String(), "github.com/lithify/lithify/"), o.output)
	}
	fmt.Fprintln(w, "\nslowest packages:")
	for _, p := range s.slowest(8) {
		fmt.Fprintf(w, "  %7.1fs %s\n", s.elapsed[p], p)
	}
	fmt.Fprintf(w, "\n%d passed, %d failed, %d skipped\n", s.passed, len(s.failed), len(s.skipped))
}

func (s *summary) slowest(n int) []string {
	var pkgs []string
	for p, took := range s.elapsed {
		if took > 0 {
			pkgs = append(pkgs, p)
		}
	}
	slices.SortFunc(pkgs, func(a, b string) int {
		return cmp.Or(-cmp.Compare(s.elapsed[a], s.elapsed[b]), strings.Compare(a, b))
	})
	return pkgs[:min(n, len(pkgs))]
}

func (s *summary) text(t test) string {
	if b := s.output[t]; b != nil {
		return b.String()
	}
	return ""
}

func buffer[K comparable](m map[K]*strings.Builder, k K) *strings.Builder {
	if m[k] == nil {
		m[k] = new(strings.Builder)
	}
	return m[k]
}

// logged is a line of t.Log, and so of t.Skip.
var logged = regexp.MustCompile(`^\S+\.go:\d+: `)

// reason is what a test said when it skipped itself: the last that it logged. Servers that it
// had started may have written more.
func reason(output string) string {
	said := "no reason given"
	for line := range strings.Lines(output) {
		if line = strings.TrimSpace(line); logged.MatchString(line) {
			said = line
		}
	}
	return said
}

// complains reports whether a parent test said more than that its subtests failed.
func complains(output string) bool {
	for line := range strings.Lines(output) {
		if line = strings.TrimSpace(line); line != "" && !chatter(line) {
			return true
		}
	}
	return false
}

// chatter are the lines that the testing package writes itself.
func chatter(line string) bool {
	return strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ")
}
