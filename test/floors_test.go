package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestFloors(t *testing.T) {
	for _, goos := range []string{"linux", "windows"} {
		t.Run(goos, func(t *testing.T) {
			for _, v := range violations(list(t, goos)) {
				t.Error(v)
			}
		})
	}
}

func TestModuleIsPlain(t *testing.T) {
	out := run(t, nil, "go", "mod", "edit", "-json", "../go.mod")
	var mod struct {
		Module           struct{ Path string }
		Replace, Exclude []any
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	if mod.Module.Path != module {
		t.Errorf("module %q, want %q", mod.Module.Path, module)
	}
	if len(mod.Replace)+len(mod.Exclude) > 0 {
		t.Errorf("go.mod must have no replace and no exclude: %v %v", mod.Replace, mod.Exclude)
	}
}

// TestFloorsHold breaks each rule once.
func TestFloorsHold(t *testing.T) {
	ours := func(room string) string { return module + "/" + room }
	for name, tc := range map[string]struct {
		pkg  pkg
		want string
	}{
		"up":         {pkg{ImportPath: ours("erofs"), Imports: []string{ours("console")}}, "erofs (floor 1) imports console (floor 3)"},
		"along":      {pkg{ImportPath: ours("queue"), Imports: []string{ours("erofs")}}, "queue (floor 1) imports erofs (floor 1)"},
		"engine":     {pkg{ImportPath: ours("convert"), Imports: []string{ours("jobs")}}, "convert must not import jobs"},
		"args":       {pkg{ImportPath: ours("jobs/layer"), Imports: []string{ours("erofs")}}, "jobs/layer must not import erofs"},
		"handler":    {pkg{ImportPath: ours("jobs/layer/run"), Imports: []string{ours("queue")}}, "jobs/layer/run must not import queue"},
		"no floor":   {pkg{ImportPath: ours("util")}, "util has no floor"},
		"test":       {pkg{ImportPath: ours("erofs"), Imports: []string{ours("test/corpus")}}, "erofs imports test/corpus, which has no floor"},
		"scheduler":  {pkg{ImportPath: ours("cmd/scheduler"), Name: "main", Deps: []string{ours("erofs")}}, "cmd/scheduler links"},
		"containerd": {pkg{ImportPath: ours("cmd/scheduler"), Name: "main", Deps: []string{"github.com/containerd/containerd/v2/core/content"}}, "cmd/scheduler links"},
		"nats":       {pkg{ImportPath: ours("cmd/worker"), Name: "main", Deps: []string{"github.com/nats-io/nats-server/v2/server"}}, "cmd/worker links"},
		"testing":    {pkg{ImportPath: ours("cmd/lithify"), Name: "main", Deps: []string{"testing"}}, "cmd/lithify links testing"},
		"cgo":        {pkg{ImportPath: "example.com/c", CgoFiles: []string{"c.go"}}, "example.com/c uses cgo"},
	} {
		t.Run(name, func(t *testing.T) {
			got := violations([]pkg{tc.pkg})
			if len(got) != 1 || !strings.HasPrefix(got[0], tc.want) {
				t.Errorf("got %q, want one that begins %q", got, tc.want)
			}
		})
	}
	dmverity := pkg{ImportPath: excused[0].from, Imports: []string{"testing"}}
	main := pkg{ImportPath: ours("cmd/lithify"), Name: "main", Deps: []string{"testing", dmverity.ImportPath, "example.com/c"}}
	if got := violations([]pkg{main, dmverity}); len(got) > 0 {
		t.Errorf("excused: got %q, want none", got)
	}
	if got := violations([]pkg{main, dmverity, {ImportPath: "example.com/c", Imports: []string{"testing"}}}); len(got) != 1 {
		t.Errorf("excused and not: got %q, want one", got)
	}
	fine := pkg{ImportPath: ours("cmd/lithify"), Name: "main",
		Imports: []string{ours("convert"), ours("jobs")}, Deps: []string{"github.com/nats-io/nats-server/v2/server"}}
	if got := violations([]pkg{fine}); len(got) > 0 {
		t.Errorf("got %q, want none", got)
	}
}

// list is every package of the module and what it links, also where one does not
// build: the compiler says that. cgo is on, or cgo files would not be listed.
func list(t *testing.T, goos string) []pkg {
	t.Helper()
	out := run(t, []string{"GOOS=" + goos, "CGO_ENABLED=1"}, "go", "list", "-C", "..", "-e", "-deps",
		"-json=ImportPath,Standard,Name,Imports,Deps,CgoFiles", "./...")
	var pkgs []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
	if !slices.ContainsFunc(pkgs, func(p pkg) bool { return strings.HasPrefix(p.ImportPath, module+"/") }) {
		t.Fatal("go list lists no package of the module")
	}
	return pkgs
}

func run(t *testing.T, env []string, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	return out
}
