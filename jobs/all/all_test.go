package all_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/jobs/all"
	"github.com/lithify/lithify/jobs/convert"
)

func TestDecode(t *testing.T) {
	good := json.RawMessage(`{"source":"r.example.com/a:1","target":"r.example.com/a:2"}`)
	a, err := all.Decode("convert", good)
	if err != nil || a.(convert.Args).Target != "r.example.com/a:2" {
		t.Fatalf("%+v, %v", a, err)
	}
	if got, want := all.Summary("convert", good), "convert r.example.com/a:1 to r.example.com/a:2"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for kind, raw := range map[string]string{"convert": `{"source":"r.example.com/a:1","no":1}`, "commit": `{}`, "other": `{}`} {
		if _, err := all.Decode(kind, json.RawMessage(raw)); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s %s: %v", kind, raw, err)
		}
		if got := all.Summary(kind, json.RawMessage(raw)); got != kind {
			t.Errorf("summary of %s: %q", raw, got)
		}
	}
}

// Each kind says which repositories its jobs touch: who may submit depends on it.
func TestReferences(t *testing.T) {
	for kind, want := range map[string]struct {
		args          string
		reads, writes []string
	}{
		"convert": {`{"source":"r.example.com/a:1","target":"r.example.com/b:2","ledgerRepo":"some/where"}`,
			[]string{"r.example.com/a:1"}, []string{"r.example.com/b:2", "r.example.com/some/where"}},
		"prune":  {`{"repository":"r.example.com/b","keep":1}`, nil, []string{"r.example.com/b"}},
		"commit": {`{"container":"c","target":"r.example.com/b:2","ledgerRepo":"lithify/ledger"}`, nil, []string{"r.example.com/b:2"}},
		"build": {`{"context":"https://example.com/a.git","target":"r.example.com/b:2","cacheFrom":["type=registry,ref=r.example.com/c"],"cacheTo":["\"ref=r.example.com/d\",type=registry,Ref=r.example.com/e"]}`,
			[]string{"https://example.com/a.git", "r.example.com/c"}, []string{"r.example.com/b:2", "r.example.com/d", "r.example.com/e"}},
	} {
		a, err := all.Decode(kind, json.RawMessage(want.args))
		if err != nil {
			t.Fatal(err)
		}
		r := a.(jobs.Referring)
		if kind == "build" { // a directory of the worker is none of a registry
			local, err := all.Decode(kind, json.RawMessage(`{"context":"library/a","target":"r.example.com/b:2"}`))
			if err != nil {
				t.Fatal(err)
			}
			if reads, _ := local.(jobs.Referring).References(); !slices.Equal(reads, []string{"oci:library/a"}) {
				t.Errorf("a build of a directory reads %q", reads)
			}
		}
		if reads, writes := r.References(); !slices.Equal(reads, want.reads) || !slices.Equal(writes, want.writes) {
			t.Errorf("%s reads %q and writes %q", kind, reads, writes)
		}
	}
}

func TestBound(t *testing.T) {
	if !all.Bound("commit") || all.Bound("convert") || all.Bound("other") {
		t.Error("commit is bound, and no other")
	}
}
