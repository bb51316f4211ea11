package restore_test

import (
	"strings"
	"testing"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/jobs/restore"
)

func TestValidate(t *testing.T) {
	good := restore.Args{Source: "r.example.com/web:saved", Node: "n", Name: "web-2"}
	if _, err := jobs.New(good, jobs.Options{}); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*restore.Args){
		"a source":              func(a *restore.Args) { a.Source = "" },
		"node is required":      func(a *restore.Args) { a.Node = "" },
		"name for the":          func(a *restore.Args) { a.Name = "" },
		`name "../web"`:         func(a *restore.Args) { a.Name = "../web" },
		`name "web_"`:           func(a *restore.Args) { a.Name = "web_" },
		"hostname":              func(a *restore.Args) { a.Hostname = "a b" },
		"has no digest":         func(a *restore.Args) { a.Base = "debian:12" },
		`network "bridge"`:      func(a *restore.Args) { a.Network = "bridge" },
		"two absolute paths":    func(a *restore.Args) { a.Mounts = []restore.Mount{{Source: "srv", Target: "/srv"}} },
		"not the root":          func(a *restore.Args) { a.Mounts = []restore.Mount{{Source: "/srv", Target: "/."}} },
		"below zero":            func(a *restore.Args) { a.Limit = -1 },
		"closed and go on":      func(a *restore.Args) { a.TCPClose, a.TCPEstablished = true, true },
		"variable 2":            func(a *restore.Args) { a.Env = []string{"A=b", "hunter2"} },
		"in one line":           func(a *restore.Args) { a.Env = []string{"A=b\nC=d"} },
		"the limit is 65536":    func(a *restore.Args) { a.Env = []string{"A=" + strings.Repeat("b", 1<<16)} },
		`secret "../x"`:         func(a *restore.Args) { a.Secrets = []string{"../x"} },
		`clone "1/2\nA=b"`:      func(a *restore.Args) { a.Clone = "1/2\nA=b" },
		"given twice":           func(a *restore.Args) { a.Secrets = []string{"a", "b", "a"} },
		"credentials belong in": func(a *restore.Args) { a.Source = "bob:hunter2@r.example.com/web" },
	} {
		a := good
		change(&a)
		if _, err := jobs.New(a, jobs.Options{}); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%+v: got %v, want an error with %q", a, err, want)
		}
	}
}
