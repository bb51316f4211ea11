package convert_test

import (
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/erofs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// overlayfs does not heed an opaque mark in a layer's root: every name there must
// be hidden by itself, and what lies above must see none of them.
func TestOpaqueRootHidesEveryName(t *testing.T) {
	h := newHub(t)
	base := gz(t, file{name: "tmp/", mode: 0o1777}, file{name: "secret", body: "s"}, file{name: "stays", body: "old"}, file{name: "gone", body: "g"})
	middle := gz(t, file{name: ".wh.gone"}, file{name: "opt/", mode: 0o700})
	opaque := gz(t, file{name: "tmp/x", body: "x"}, file{name: ".wh..wh..opq"}, file{name: "stays", body: "new"})
	top := gz(t, file{name: "opt/y", body: "y"})
	tag(t, h.target("app:1"), manifest(t, h.target("app:1"), "linux", "amd64", base, middle, opaque, top))
	r := convertTo(t, h.source("app:1"), h.target("app:2"), convert.Options{Replace: true})
	m := parse[ocispec.Manifest](t, read(t, h.source("app:2"), r.Descriptor))

	fsys := open(t, h.source("app:2"), m.Layers[2])
	got := map[string]string{}
	for _, e := range must(fs.ReadDir(fsys, "."))(t) {
		info := must(fs.Stat(fsys, e.Name()))(t)
		switch {
		case erofs.IsWhiteout(info):
			got[e.Name()] = "whiteout"
		case erofs.IsOpaque(info):
			got[e.Name()] = "opaque"
		default:
			got[e.Name()] = info.Mode().Type().String()
		}
	}
	want := map[string]string{"secret": "whiteout", "opt": "whiteout", "tmp": "opaque", "stays": "----------"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("root of the opaque layer (-want +got):", diff)
	}
	if mode := metadataOf(t, open(t, h.source("app:2"), m.Layers[3]), "opt").Mode; mode != 0o755 {
		t.Errorf("opt above has mode %o: that of the one that is hidden", mode)
	}
}

// A layer that is alone knows that nothing lies below.
func TestOpaqueRootOfAnEmptyStack(t *testing.T) {
	h := newHub(t)
	opaque := gz(t, file{name: ".wh..wh..opq"}, file{name: "x", body: "x"})
	nothing := gz(t, file{name: "./", mode: 0o755})
	for name, layers := range map[string][]blob{"bottom": {opaque}, "above nothing": {nothing, opaque}} {
		tag(t, h.target("app:1"), manifest(t, h.target("app:1"), "linux", "amd64", layers...))
		r := convertTo(t, h.source("app:1"), h.target("app:2"), convert.Options{Replace: true})
		m := parse[ocispec.Manifest](t, read(t, h.source("app:2"), r.Descriptor))
		list := must(fs.ReadDir(open(t, h.source("app:2"), m.Layers[len(layers)-1]), "."))(t)
		if len(list) != 1 || list[0].Name() != "x" {
			t.Errorf("%s: got %v, want x alone", name, list)
		}
	}
}
