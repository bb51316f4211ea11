package test

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

const module = "github.com/lithify/lithify"

// floors gives each room its floor: imports point down only. Patterns are
// path.Match's; the first that matches counts.
var floors = []struct {
	room  string
	floor int
}{
	{"cmd/*", 4},
	{"jobs/all", 3}, {"jobs/all/run", 3}, {"console", 3}, {"console/page", 3}, {"console/*", 2}, {"queue/bench", 3},
	{"jobs/*", 2}, {"jobs/*/run", 2}, {"queue/scheduler", 2}, {"queue/worker", 2},
	{"convert", 1}, {"convert/*", 1}, {"erofs", 1}, {"erofs/*", 1}, {"cimfs", 1}, {"cimfs/*", 1},
	{"restore", 1}, {"restore/*", 1}, {"build", 1}, {"build/*", 1},
	{"queue", 1}, {"queue/natsd", 1}, {"queue/auth", 1},
	{"jobs", 0}, {"telemetry", 0}, {"queue/rate", 0}, {"flagfile", 0},
}

// sameFloor are the imports along a floor.
var sameFloor = []edge{
	{"convert", "erofs"}, {"convert", "cimfs"}, {"erofs", "erofs/verity"},
	{"convert", "convert/inflate"}, {"convert/registry", "convert"}, {"build", "convert/registry"}, // what of a URL may be shown
	{"convert/commit", "convert"}, {"convert/commit", "convert/pack"}, {"convert/commit", "convert/stack"}, {"convert/commit", "convert/upper"}, {"convert/commit", "erofs"},
	{"convert/pack", "convert"}, {"convert/provenance", "convert"},
	{"convert/stack", "convert/preflight"}, {"convert/stack", "cimfs"}, {"convert/stack", "cimfs/differ"}, // on Windows its layers are block CIMs
	{"convert/preflight", "erofs"}, {"convert/preflight", "cimfs"}, {"convert/preflight", "convert/daemonconf"},
	{"convert/overlay", "erofs"}, {"convert/inspect", "convert"}, {"convert/inspect", "convert/overlay"}, {"convert/inspect", "convert/frames"}, {"convert/inspect", "erofs"}, {"convert/inspect", "cimfs"},
	{"convert/lint", "convert"}, {"convert/lint", "convert/inspect"}, {"convert/lint", "convert/frames"}, {"convert/lint", "convert/proof"}, {"convert/lint", "erofs"},
	{"convert", "convert/proof"}, {"convert", "convert/frames"}, {"convert/proof", "convert/overlay"}, {"convert/proof", "convert/tree"}, {"convert/proof", "erofs"},
	{"convert/verify", "convert/proof"}, {"convert/verify", "convert/overlay"}, {"convert/verify", "convert/frames"},
	{"convert/verify", "convert"}, {"convert/verify", "convert/stack"}, {"convert/verify", "convert/tree"}, {"convert/verify", "erofs"}, {"convert/verify", "cimfs"},
	{"erofs/erofstest", "convert/tree"}, {"erofs/*", "erofs"}, {"cimfs/*", "cimfs"}, {"cimfs/differ", "cimfs/vhd"}, {"restore/*", "restore"}, {"build/*", "build"},
	{"restore", "restore/*"}, {"restore/checkpoint", "restore/*"}, {"restore/set", "convert"}, {"restore/retain", "restore/*"}, {"restore/retain", "convert"}, {"restore/retain", "convert/registry"}, {"restore/image", "restore/archive"}, {"restore/image", "restore/pages"}, {"restore/image", "restore/encrypt"},
	{"restore", "convert"}, {"restore", "convert/stack"}, {"restore", "convert/registry"}, {"restore/image", "convert"}, {"restore/image", "convert/provenance"}, // a checkpoint is an image, and its container one of containerd's; whether a registry is away it says itself
	{"restore/checkpoint", "convert"}, {"restore/checkpoint", "convert/*"}, // as a commit is made
	{"restore", "restore/archive"}, {"restore/*", "restore/archive"}, {"restore/archive", "convert/inflate"},
	{"queue/natsd", "queue"}, {"queue/auth", "queue"},
	{"jobs/*/run", "jobs/*"},
	{"jobs/convert", "jobs/layer"}, {"jobs/layer/run", "jobs/convert/run"}, // an image is made of layers
	{"jobs/commit", "jobs/convert"}, {"jobs/commit", "jobs/layer"}, {"jobs/commit/run", "jobs/convert/run"}, // what is committed is converted
	{"jobs/checkpoint", "jobs/convert"}, {"jobs/checkpoint", "jobs/layer"}, {"jobs/checkpoint/run", "jobs/convert/run"}, // references to images
	{"jobs/restore", "jobs/convert"}, {"jobs/restore", "jobs/layer"}, {"jobs/restore/run", "jobs/convert/run"}, {"jobs/restore/run", "jobs/convert"}, // likewise
	{"jobs/prune", "jobs/convert"}, {"jobs/prune", "jobs/layer"}, {"jobs/prune/run", "jobs/convert/run"}, // likewise
	{"jobs/remove/run", "jobs/convert/run"}, {"jobs/rollout", "jobs/restore"}, {"jobs/rollout/run", "jobs/remove"}, {"jobs/rollout/run", "jobs/restore"}, // what a rollout is made of
	{"jobs/build", "jobs/convert"}, {"jobs/build", "jobs/layer"}, {"jobs/build/run", "jobs/convert/run"}, // so is what is built
	{"jobs/all/run", "jobs/all"}, {"console", "jobs/all"}, {"console/page", "jobs/all"}, {"console", "console/page"},
	{"console/page", "console/rollouts"}, {"console/page", "console/index"}, {"console/rollouts", "jobs/rollout"}, // it shows rollouts by what they are made of
}

// forbidden are imports that point down and are wrong all the same.
var forbidden = []edge{
	{"convert", "jobs"}, {"convert/*", "jobs"}, {"erofs", "jobs"}, {"erofs/*", "jobs"}, {"cimfs", "jobs"},
	{"restore", "jobs"}, {"restore/*", "jobs"}, {"build", "jobs"}, // an engine knows no job
	{"jobs/*", "convert"}, {"jobs/*", "erofs"}, {"jobs/*", "cimfs"}, {"jobs/*", "restore"}, {"jobs/*", "build"},
	{"jobs/*", "queue"}, {"jobs/*", "convert/*"}, // args know no engine and no queue
	{"jobs/*/run", "queue"},
	{"queue/*", "convert"}, {"queue/*", "convert/*"}, {"queue/*", "erofs"}, {"queue/*", "cimfs"},
	{"queue/*", "restore"}, {"queue/*", "build"}, // the queue knows no engine
}

// links names what must not be in a main, by prefix of the import path.
var links = []struct{ room, prefix, why string }{
	{"cmd/scheduler", "github.com/containerd/containerd/", "the scheduler validates and knows no engine"},
	{"cmd/scheduler", "github.com/Microsoft/hcsshim", "the scheduler validates and knows no engine"},
	{"cmd/scheduler", "github.com/erofs/", "the scheduler validates and knows no engine"},
	{"cmd/scheduler", "github.com/google/go-containerregistry", "the scheduler moves no bytes"},
	{"cmd/scheduler", "github.com/moby/buildkit", "the scheduler validates and knows no engine"},
	{"cmd/scheduler", module + "/erofs", "the scheduler validates and knows no engine"},
	{"cmd/scheduler", module + "/cimfs", "the scheduler validates and knows no engine"},
	{"cmd/scheduler", module + "/convert", "the scheduler validates and knows no engine"},
	{"cmd/scheduler", module + "/restore", "the scheduler validates and knows no engine"},
	{"cmd/scheduler", module + "/build", "the scheduler validates and knows no engine"},
	{"cmd/scheduler", module + "/jobs/all/run", "the scheduler validates and knows no handler"},
	{"cmd/scheduler", "github.com/nats-io/nats-server", "the server is its own process"},
	{"cmd/worker", "github.com/nats-io/nats-server", "the server is its own process"},
	{"cmd/*", "testing", "test only"},
	{"cmd/*", "net/http/httptest", "test only"},
	{"cmd/*", "github.com/google/go-cmp", "test only"},
	{"cmd/*", "github.com/google/go-containerregistry/pkg/registry", "test only"},
	{"cmd/*", "github.com/google/go-containerregistry/pkg/v1/random", "test only"},
	{"cmd/*", "github.com/stretchr/", "test only"},
	{"cmd/*", module + "/erofs/erofstest", "test only"},
	{"cmd/*", module + "/cimfs/classictest", "test only"},
	{"cmd/*", module + "/console/consoletest", "test only"},
	{"cmd/*", module + "/test", "test only"},
}

// excused are imports, by others, of what no main may link.
var excused = []edge{
	{"github.com/containerd/go-dmverity/pkg/utils", "testing"}, // its test_util.go, as of 0.1.0
}

type edge struct{ from, to string }

// pkg is what `go list -deps -json` says of a package.
type pkg struct {
	ImportPath string
	Standard   bool
	Name       string
	Imports    []string
	Deps       []string
	CgoFiles   []string
}

// violations are what is wrong with pkgs, one sentence each.
func violations(pkgs []pkg) []string {
	var bad []string
	importers := map[string][]string{}
	for _, p := range pkgs {
		for _, i := range p.Imports {
			importers[i] = append(importers[i], p.ImportPath)
		}
	}
	for _, p := range pkgs {
		if len(p.CgoFiles) > 0 && !p.Standard {
			bad = append(bad, fmt.Sprintf("%s uses cgo: %v", p.ImportPath, p.CgoFiles))
		}
		room, ours := strings.CutPrefix(p.ImportPath, module+"/")
		if !ours || under(room, "test") {
			continue
		}
		bad = append(bad, wrongImports(room, p.Imports)...)
		if p.Name == "main" {
			bad = append(bad, wrongLinks(room, p.Deps, importers)...)
		}
	}
	return bad
}

func wrongImports(room string, imports []string) (bad []string) {
	floor, ok := floorOf(room)
	if !ok {
		return []string{room + " has no floor: add it to the table in test/floors_test.go"}
	}
	for _, i := range imports {
		to, ours := strings.CutPrefix(i, module+"/")
		if !ours {
			continue
		}
		below, ok := floorOf(to)
		here := edge{room, to}
		switch {
		case !ok:
			bad = append(bad, fmt.Sprintf("%s imports %s, which has no floor", room, to))
		case below > floor, below == floor && !slices.ContainsFunc(sameFloor, here.matches):
			bad = append(bad, fmt.Sprintf("%s (floor %d) imports %s (floor %d)", room, floor, to, below))
		case slices.ContainsFunc(forbidden, here.matches):
			bad = append(bad, fmt.Sprintf("%s must not import %s", room, to))
		}
	}
	return bad
}

func wrongLinks(room string, deps []string, importers map[string][]string) (bad []string) {
	for _, l := range links {
		if !match(l.room, room) {
			continue
		}
		for _, d := range deps {
			if under(d, strings.TrimSuffix(l.prefix, "/")) && !isExcused(d, deps, importers) {
				bad = append(bad, fmt.Sprintf("%s links %s: %s", room, d, l.why))
			}
		}
	}
	return bad
}

// isExcused reports whether all of deps that import d are excused.
func isExcused(d string, deps []string, importers map[string][]string) bool {
	some := false
	for _, by := range importers[d] {
		if !slices.Contains(deps, by) {
			continue
		}
		if !slices.Contains(excused, edge{by, d}) {
			return false
		}
		some = true
	}
	return some
}

func floorOf(room string) (int, bool) {
	for _, f := range floors {
		if match(f.room, room) {
			return f.floor, true
		}
	}
	return 0, false
}

func (e edge) matches(rule edge) bool { return match(rule.from, e.from) && match(rule.to, e.to) }

func under(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

func match(pattern, room string) bool {
	ok, _ := path.Match(pattern, room)
	return ok
}
