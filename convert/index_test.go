package convert_test

import (
	"bytes"
	"encoding/binary"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var index = convert.Options{AllPlatforms: true, Profile: erofs.ProfileIndex, Dialect: erofs.DialectSpec}

// carriers is an image of a plain tar, one with gzip and one with zstd, which links to files below
// and uses directories of theirs.
func carriers(t *testing.T, h *hub, name string) (layers []blob, tars [][]byte) {
	t.Helper()
	for _, files := range [][]file{
		{{name: "./", mode: 0o711}, {name: "etc/", mode: 0o700}, {name: "etc/passwd", mode: 0o4600, uid: 7, body: "root:x:0:0\n"}},
		{{name: "./", mode: 0o711}, {name: "big", body: string(bytes.Repeat([]byte("0123456789abcdef"), 10_000))}, {name: ".wh.gone"}},
		{{name: "etc/new", body: "new"}, {name: "link => etc/passwd"}, {name: "again => big"}},
	} {
		tars = append(tars, tarOf(t, files...))
	}
	z := must(zstd.NewWriter(nil))(t)
	defer z.Close()
	for i, b := range [][]byte{tars[0], gzipped(t, tars[1]), z.EncodeAll(tars[2], nil)} {
		layers = append(layers, blob{[]string{ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd}[i], b, digest.FromBytes(tars[i])})
	}
	tag(t, h.target(name), manifest(t, h.target(name), "linux", "amd64", layers...))
	return layers, tars
}

// TestIndex: each layer of the original stands before the metadata that were made of it, in a
// place that did not have it, too.
func TestIndex(t *testing.T) {
	h, other := newHub(t), newHub(t)
	layers, tars := carriers(t, h, "app:1")
	opts := index
	opts.Replace = true
	r := convertTo(t, h.source("app:1"), other.target("app:2"), opts)
	dst := other.source("app:2")
	m := parse[ocispec.Manifest](t, read(t, dst, r.Descriptor))
	config := parse[ocispec.Image](t, read(t, dst, m.Config))
	if len(m.Layers) != 6 || len(config.RootFS.DiffIDs) != 6 {
		t.Fatalf("%d layers and %d diffIDs, want 6", len(m.Layers), len(config.RootFS.DiffIDs))
	}
	mounted := must(erofs.MountedOf(m.Layers))(t)
	for i, l := range mounted {
		role := erofs.RoleOverlayLower
		if i == 2 {
			role = ""
		}
		if l.MediaType != erofs.MediaTypeImage || l.Annotations[erofs.AnnotationRole] != role {
			t.Errorf("layer %d is %s, role %q", i, l.MediaType, l.Annotations[erofs.AnnotationRole])
		}
		want := descOf(layers[i].mediaType, layers[i].bytes)
		want.Annotations = map[string]string{erofs.AnnotationRole: erofs.RoleDevice}
		if d := cmp.Diff([]ocispec.Descriptor{want}, l.Devices); d != "" {
			t.Errorf("layer %d, devices (-want +got):\n%s", i, d)
		}
		if got := config.RootFS.DiffIDs[2*i : 2*i+2]; !slices.Equal(got, []digest.Digest{layers[i].diffID, l.Digest}) {
			t.Errorf("layer %d, diffIDs %v", i, got)
		}
		if !bytes.Equal(read(t, dst, l.Devices[0]), layers[i].bytes) {
			t.Errorf("layer %d is not there as it was", i)
		}
		if v := r.Variants[0].Layers[i].Verified; v == nil || v.Bytes == 0 {
			t.Errorf("layer %d was not verified: %+v", i, v)
		}
	}
	joined, _, err := erofs.Join(bytes.NewReader(read(t, dst, mounted[2].Descriptor)), bytes.NewReader(tars[2]))
	if err != nil {
		t.Fatal(err)
	}
	top := must(erofs.Open(joined))(t)
	for name, want := range map[string]string{"etc/new": "new", "link": "root:x:0:0\n", "again": string(bytes.Repeat([]byte("0123456789abcdef"), 10_000))} {
		if got, err := fs.ReadFile(top, name); err != nil || string(got) != want {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if got, want := metadataOf(t, top, "etc"), (erofs.Attr{Mode: 0o700}); !cmp.Equal(got, want) {
		t.Errorf("etc is %+v, want %+v", got, want)
	}
	pairs := must(convert.Pairs(t.Context(), dst, h.source("app:1")))(t)
	if p := pairs[0]; p.Profile != erofs.ProfileIndex || p.Dialect != erofs.DialectSpec || p.Writer != erofs.WriterVersion {
		t.Errorf("found %+v", p)
	}
}

// TestIndexLedger has a second image of the same layers get them from the ledger.
func TestIndexLedger(t *testing.T) {
	h := newHub(t)
	carriers(t, h, "app:1")
	pub, key := keys(t)
	opts := index
	opts.Ledger = h.ledger(key, pub)
	first := convertTo(t, h.source("app:1"), h.target("app:2"), opts)
	seen, err := phases(t, h.source("app:1"), h.target("app:3"), opts)
	if err != nil || seen["converted"] != 0 || seen["reused"] < 3 {
		t.Errorf("%v, %v: want three layers from the ledger", seen, err)
	}
	if got := must(h.target("app:3").Head(t.Context()))(t); got.Digest != first.Descriptor.Digest {
		t.Errorf("got %s, and %s the first time", got.Digest, first.Descriptor.Digest)
	}
}

// TestIndexAtFault changes what says where files are, which is not noticed but by looking at what
// is there.
func TestIndexAtFault(t *testing.T) {
	h := newHub(t)
	body := string(bytes.Repeat([]byte("0123456789abcdef"), 10_001))
	tag(t, h.target("app:1"), manifest(t, h.target("app:1"), "linux", "amd64", gz(t, file{name: "a", body: body}, file{name: "b", body: "b"})))
	for name, damage := range map[string]func(b []byte){
		"tag":      func(b []byte) { b[1152] ^= 1 },
		"size":     func(b []byte) { b[1152+64] -= 3 },
		"place":    func(b []byte) { b[1152+68]++ },
		"the file": func(b []byte) { b[bytes.Index(b, binary.LittleEndian.AppendUint64(nil, uint64(len(body))))+8]++ },
	} {
		damaged := convert.WithWritten(index, func(f *os.File, l *erofs.Layer) {
			b := make([]byte, l.Size)
			if _, err := f.ReadAt(b, 0); err != nil {
				t.Error(err)
			}
			damage(b)
			if _, err := f.WriteAt(b, 0); err != nil {
				t.Error(err)
			}
		})
		_, err := convert.Image(t.Context(), h.source("app:1"), h.target("app:2"), damaged)
		if err == nil || !strings.Contains(err.Error(), "verify: ") || convert.Permanent(err) {
			t.Errorf("%s: got %v, want a difference that another machine may not have", name, err)
		}
	}
}

// TestIndexDialect: the legacy dialect has no roles.
func TestIndexDialect(t *testing.T) {
	h := newHub(t)
	carriers(t, h, "app:1")
	legacy := index
	legacy.Dialect = ""
	if _, err := convert.Image(t.Context(), h.source("app:1"), h.target("app:2"), legacy); !convert.Permanent(err) {
		t.Errorf("got %v, want a refusal", err)
	}
	made := convertTo(t, h.source("app:1"), h.target("app:2"), index).Descriptor
	if r, err := convert.Migrate(t.Context(), h.target("app:2"), erofs.DialectSpec, false); err != nil || !r.Unchanged || r.Descriptor.Digest != made.Digest {
		t.Errorf("to the dialect it is of: %+v, %v", r, err)
	}
	if _, err := convert.Migrate(t.Context(), h.target("app:2"), erofs.DialectLegacy, false); !convert.Permanent(err) {
		t.Errorf("to legacy: %v, want a refusal", err)
	}
}

// TestCopyTar brings no more of a layer than is asked for, however much it unpacks to, and
// compares all of its blob.
func TestCopyTar(t *testing.T) {
	h := newHub(t)
	raw := tarOf(t, file{name: "zeros", body: string(make([]byte, 5<<20))})
	layer := blob{ocispec.MediaTypeImageLayerGzip, gzipped(t, raw), digest.FromBytes(raw)}
	src := h.target("app:1")
	tag(t, src, manifest(t, src, "linux", "amd64", layer))
	for _, n := range []int{0, 1000, 1 << 40} {
		var got bytes.Buffer
		if err := convert.CopyTar(t.Context(), h.source("app:1"), descOf(layer.mediaType, layer.bytes), &got, int64(n)); err != nil {
			t.Fatal(err)
		}
		if want := raw[:min(n, len(raw))]; !bytes.Equal(got.Bytes(), want) {
			t.Errorf("asked for %d bytes: got %d, want %d", n, got.Len(), len(want))
		}
	}
}
