package inspect_test

import (
	"bytes"
	"io"
	"log"
	"maps"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"github.com/lithify/lithify/cimfs"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/inspect"
	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/test/corpus"
)

const (
	emulated = "EMUCIM1 and the rest"
	writer   = "cimwriter.dll 10.0.26100.1 on build 26100"
)

var rootHash, otherHash = strings.Repeat("ab", 32), strings.Repeat("cd", 32)

// said are a layer's annotations, with others in their place; "" takes one away.
func said(others ...string) map[string]string {
	a := map[string]string{cimfs.AnnotationName: cimfs.LayerName, cimfs.AnnotationRootHash: rootHash, cimfs.AnnotationWriter: writer}
	for i := 0; i < len(others); i += 2 {
		a[others[i]] = others[i+1]
	}
	maps.DeleteFunc(a, func(_, v string) bool { return v == "" })
	return a
}

func layer(mt types.MediaType, content []byte, annotations map[string]string) mutate.Addendum {
	return mutate.Addendum{Layer: static.NewLayer(content, mt), MediaType: mt, Annotations: annotations}
}

func compressed(t *testing.T, content string, opts ...zstd.EOption) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, opts...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(z, content); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// inspected pushes images of these layers in one index, and looks at that.
func inspected(t *testing.T, images ...[]mutate.Addendum) []inspect.Manifest {
	t.Helper()
	server := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	ref := strings.TrimPrefix(server.URL, "http://") + "/windows:1"
	platform := v1.Platform{OS: "windows", Architecture: "amd64", OSVersion: "10.0.26100.1"}
	var entries []mutate.IndexAddendum
	for _, layers := range images {
		image, err := corpus.Image(platform, []string{"cmd"})
		if err != nil {
			t.Fatal(err)
		}
		if image, err = mutate.Append(image, layers...); err != nil {
			t.Fatal(err)
		}
		image = mutate.Annotations(image, map[string]string{convert.AnnotationProfile: string(convert.ProfileBlockCIM)}).(v1.Image)
		entries = append(entries, corpus.Entry(image, platform))
	}
	tag, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(tag, corpus.Index(entries...)); err != nil {
		t.Fatal(err)
	}
	src, err := registry.Open(ref, registry.Options{Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	r, err := inspect.Image(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	return r.Manifests
}

// TestCIM is an image with what joins its layers, and the same layers without.
func TestCIM(t *testing.T) {
	hives, tar := digest.FromString("hives"), digest.FromString("tar")
	merged := compressed(t, "merged")
	base := layer(cimfs.MediaTypeLayerZstd, compressed(t, strings.Repeat("base", 1<<20)), said(cimfs.AnnotationHives, hives.String(), cimfs.AnnotationSource, tar.String()))
	top := []byte(emulated)
	without := []mutate.Addendum{base, layer(cimfs.MediaTypeLayer, top, said())}
	with := []mutate.Addendum{
		base,
		layer(cimfs.MediaTypeLayer, top, said(cimfs.AnnotationMerged, digest.FromBytes(merged).String(), cimfs.AnnotationMergedRootHash, otherHash)),
		layer(cimfs.MediaTypeMergedZstd, merged, said(cimfs.AnnotationName, cimfs.MergedName, cimfs.AnnotationRootHash, otherHash)),
	}
	wantBase := inspect.CIM{Name: "layer.cim", RootHash: rootHash, Writer: writer, TarID: tar, Hives: hives}
	wantTop := inspect.CIM{Name: "layer.cim", RootHash: rootHash, Writer: writer, Emulated: true}
	wantTopWith := wantTop
	wantTopWith.Merged, wantTopWith.MergedRootHash = digest.FromBytes(merged), otherHash
	want := [][]inspect.CIM{
		{wantBase, wantTop},
		{wantBase, wantTopWith, {Name: "merged.cim", RootHash: otherHash, Writer: writer}},
	}
	for i, m := range inspected(t, without, with) {
		if m.Kind != "blockcim" {
			t.Errorf("manifest %d is of kind %s", i, m.Kind)
		}
		var got []inspect.CIM
		for _, l := range m.Layers {
			if l.Problem != "" || l.CIM == nil {
				t.Fatalf("manifest %d: %+v", i, l)
			}
			got = append(got, *l.CIM)
		}
		if diff := cmp.Diff(want[i], got); diff != "" {
			t.Errorf("manifest %d (-want +got):\n%s", i, diff)
		}
	}
}

// TestCIMProblems has layers that no node takes.
func TestCIMProblems(t *testing.T) {
	whole := compressed(t, strings.Repeat("block", 99))
	none := digest.FromString("none").String()
	for name, c := range map[string]struct {
		layer mutate.Addendum
		want  string
	}{
		"no name":           {layer(cimfs.MediaTypeLayer, []byte("x"), said(cimfs.AnnotationName, "")), `.name is "", and consumers look for "layer.cim"`},
		"a layer's name":    {layer(cimfs.MediaTypeMerged, []byte("x"), said()), `consumers look for "merged.cim"`},
		"no root hash":      {layer(cimfs.MediaTypeLayer, []byte("x"), said(cimfs.AnnotationRootHash, "")), `.root-hash: "" is no root hash`},
		"short root hash":   {layer(cimfs.MediaTypeLayer, []byte("x"), said(cimfs.AnnotationRootHash, "abab")), `.root-hash: "abab" is no root hash`},
		"merged is none":    {layer(cimfs.MediaTypeLayer, []byte("x"), said(cimfs.AnnotationMerged, none, cimfs.AnnotationMergedRootHash, rootHash)), "no layer behind it"},
		"merged unhashed":   {layer(cimfs.MediaTypeLayer, []byte("x"), said(cimfs.AnnotationMerged, none)), `.merged-root-hash: "" is no root hash`},
		"no zstd":           {layer(cimfs.MediaTypeLayerZstd, []byte("a block as it is"), said()), "magic"},
		"cut":               {layer(cimfs.MediaTypeLayerZstd, whole[:len(whole)-5], said()), "unexpected EOF"},
		"a window too wide": {layer(cimfs.MediaTypeLayerZstd, compressed(t, strings.Repeat("x", 9<<20), zstd.WithWindowSize(512<<20)), said()), "window"},
	} {
		t.Run(name, func(t *testing.T) {
			l := inspected(t, []mutate.Addendum{c.layer})[0].Layers[0]
			if l.CIM == nil || !strings.Contains(l.Problem, c.want) {
				t.Errorf("problem %q of %+v, want %q", l.Problem, l.CIM, c.want)
			}
		})
	}
	t.Run("nothing in it", func(t *testing.T) {
		l := inspected(t, []mutate.Addendum{layer(cimfs.MediaTypeLayerZstd, compressed(t, ""), said())})[0].Layers[0]
		if l.CIM == nil || l.CIM.Emulated || l.Problem != "" {
			t.Errorf("got %+v", l)
		}
	})
}
