package inspect_test

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/inspect"
	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/test/imagetest"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// variantOf reports on an image and gives its variant.
func variantOf(t *testing.T, src convert.Source) inspect.Manifest {
	t.Helper()
	r, err := inspect.Image(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	if r.Name != src.Name() || len(r.Manifests) != 2 || r.Manifests[0].Kind != "tar" {
		t.Fatalf("got %+v", r)
	}
	return r.Manifests[1]
}

// TestReport: what is said of a layer is what the writer says of it.
func TestReport(t *testing.T) {
	h := imagetest.NewHub(t)
	file := imagetest.Layer(t, map[string]string{"f": noise(5<<20, 3)}, tar.Header{Name: "f", Mode: 0o644})
	for name, opts := range map[string]convert.Options{
		"raw":    {},
		"spec":   {Dialect: erofs.DialectSpec, Verity: true},
		"tar":    {Profile: erofs.ProfileTar},
		"zstd":   {Profile: erofs.ProfileZstd, Verity: true},
		"inline": {Profile: erofs.ProfileZstd, Dialect: erofs.DialectSpec, InlineTails: true},
	} {
		t.Run(name, func(t *testing.T) {
			m := h.Converted(t, "it:1", opts, file, file)
			h.Sent()
			v := variantOf(t, h.Put(t, "it:1", m))
			if sent := h.Sent(); sent > 1<<20 {
				t.Errorf("%d bytes of blobs fetched", sent)
			}
			profile, dialect := opts.Profile, opts.Dialect
			if profile == "" {
				profile = erofs.ProfileRaw
			}
			if dialect == "" {
				dialect = erofs.DialectLegacy
			}
			if v.Kind != "erofs" || v.Profile != profile || v.Dialect != dialect || v.Writer != erofs.WriterVersion || v.On != "linux(+erofs)/amd64" || len(v.Layers) != 2 {
				t.Errorf("variant: %+v", v)
			}
			for i, l := range v.Layers {
				if l.Problem != "" || l.Digest != m.Manifest.Layers[i].Digest || l.DiffID.String() != m.DiffIDs()[i] {
					t.Errorf("layer %d: %+v", i, l)
				}
				if want := dialect == erofs.DialectSpec && i == 0; (l.Role == erofs.RoleOverlayLower) != want {
					t.Errorf("layer %d: role %q", i, l.Role)
				}
				super(t, l, profile)
				proofs(t, l, opts, m.Blobs[i])
			}
		})
	}
}

func super(t *testing.T, l inspect.Layer, profile erofs.Profile) {
	t.Helper()
	s := l.FileSystem
	if s == nil {
		t.Fatal("no file system")
	}
	if profile == erofs.ProfileTar {
		if s.BlockSize != 512 || s.Blocks != 0 {
			t.Errorf("super block: %+v", s)
		}
	} else if s.BlockSize != 4096 || s.Inodes != 2 || !slices.Contains(s.Features, "sb_csum") || s.Blocks*4096 <= s.Metadata {
		t.Errorf("super block: %+v", s)
	}
}

func proofs(t *testing.T, l inspect.Layer, opts convert.Options, blob []byte) {
	t.Helper()
	if v := l.Verity; (v != nil) != opts.Verity {
		t.Errorf("dm-verity: %+v", v)
	} else if v != nil && (v.BlockSize != 4096 || v.HashOffset != l.FileSystem.Blocks*4096 || digest.Digest(v.RootDigest).Validate() != nil) {
		t.Errorf("dm-verity: %+v of an image of %d blocks", v, l.FileSystem.Blocks)
	}
	c := l.Chunks
	if (c != nil) != (opts.Profile == erofs.ProfileZstd) {
		t.Fatalf("chunks: %+v", c)
	}
	if c == nil {
		return
	}
	x, _, err := erofs.ChunkIndexOf(l.Descriptor)
	if err != nil {
		t.Fatal(err)
	}
	chunks, err := erofs.ReadChunkIndex(strings.NewReader(string(blob)), l.Size, x)
	if err != nil {
		t.Fatal(err)
	}
	want := inspect.Chunks{Count: len(chunks), Stored: x.Offset, Least: 4096, Sums: true}
	for _, one := range chunks {
		want.Held += one.ImageSize
		want.Most = max(want.Most, one.ImageSize)
		want.Least = min(want.Least, one.ImageSize)
	}
	if *c != want {
		t.Errorf("chunks: got %+v, want %+v", *c, want)
	}
}

// TestProblems: one layer that is wrong is its own problem; the rest is told all the same.
func TestProblems(t *testing.T) {
	h := imagetest.NewHub(t)
	file := imagetest.Layer(t, map[string]string{"f": "f"}, tar.Header{Name: "f", Mode: 0o644})
	other := imagetest.Layer(t, map[string]string{"g": "g"}, tar.Header{Name: "g", Mode: 0o644})
	note := func(key, value string) func(*imagetest.Image) {
		return func(m *imagetest.Image) { m.Manifest.Layers[0].Annotations[key] = value }
	}
	for name, c := range map[string]struct {
		alter func(*imagetest.Image)
		says  string
	}{
		"no image":      {func(m *imagetest.Image) { m.Replace(0, make([]byte, 8192)) }, ""},
		"cut":           {func(m *imagetest.Image) { m.Replace(0, m.Blobs[0][:20]) }, ""},
		"hash offset":   {note(erofs.AnnotationVerityHashOffset, "-1"), `"-1"`},
		"block size":    {note(erofs.AnnotationVerityBlockSize, "large"), `"large"`},
		"range":         {note(erofs.AnnotationChunkIndexRange, "1-2"), `"1-2"`},
		"range far off": {note(erofs.AnnotationChunkIndexRange, "99999999"), "99999999"},
		"index digest":  {note(erofs.AnnotationChunkIndexDigest, digest.FromString("x").String()), "instead of"},
		"index length":  {func(m *imagetest.Image) { editIndex(m, func(b []byte) { b[16]++ }) }, "do not hold"},
		"index order":   {func(m *imagetest.Image) { editIndex(m, func(b []byte) { b[32+8+7] = 0x7f }) }, "behind the next"},
	} {
		t.Run(name, func(t *testing.T) {
			m := h.Converted(t, "it:1", convert.Options{Profile: erofs.ProfileZstd, Dialect: erofs.DialectSpec, Verity: true}, file, other)
			c.alter(m)
			v := variantOf(t, h.Put(t, "it:1", m))
			if p := v.Layers[0].Problem; p == "" || !strings.Contains(p, c.says) {
				t.Errorf("problem %q, want one that says %q", p, c.says)
			}
			if l := v.Layers[1]; l.Problem != "" || l.FileSystem == nil || l.Chunks == nil || l.Verity == nil {
				t.Errorf("the other layer: %+v", l)
			}
		})
	}
}

// TestMixedDialects: where layers do not agree, there is no dialect.
func TestMixedDialects(t *testing.T) {
	h := imagetest.NewHub(t)
	file := imagetest.Layer(t, nil, tar.Header{Name: "f"})
	m := h.Converted(t, "it:1", convert.Options{}, file, file)
	m.Manifest.Layers[1].MediaType = erofs.MediaTypeImage
	if v := variantOf(t, h.Put(t, "it:1", m)); v.Kind != "erofs" || v.Dialect != "" {
		t.Errorf("kind %q, dialect %q", v.Kind, v.Dialect)
	}
}

// TestChosen: of several variants that is opened which is asked for.
func TestChosen(t *testing.T) {
	h := imagetest.NewHub(t)
	m := h.Converted(t, "it:1", convert.Options{}, imagetest.Layer(t, nil, tar.Header{Name: "f"}))
	arm := m.Index.Manifests[1]
	arm.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm64", OSFeatures: []string{erofs.OSFeature}}
	m.Index.Manifests = append(m.Index.Manifests, arm)
	src := h.Put(t, "it:2", m)
	for name, c := range map[string]struct {
		want *ocispec.Platform
		says string // of the error
	}{
		"arm64": {&ocispec.Platform{OS: "linux", Architecture: "arm64"}, ""},
		"amd64": {&ocispec.Platform{OS: "linux", Architecture: "amd64"}, ""},
		"riscv": {&ocispec.Platform{OS: "linux", Architecture: "riscv64"}, "linux/arm64"},
	} {
		files, err := inspect.Open(t.Context(), src, inspect.Options{Platform: c.want})
		if c.says != "" {
			if !errors.As(err, new(*convert.RefusedError)) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: got %v, want one that names what there is, %q", name, err, c.says)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := files.Manifest.Platform.Architecture; got != c.want.Architecture {
			t.Errorf("%s: got %s", name, got)
		}
		if err := files.Close(); err != nil {
			t.Error(err)
		}
	}
	m.Manifest.Layers[0].Annotations = map[string]string{erofs.AnnotationRole: erofs.RoleDevice}
	if _, err := inspect.Open(t.Context(), h.Put(t, "it:3", m), inspect.Options{}); !errors.As(err, new(*convert.RefusedError)) || !strings.Contains(err.Error(), "device") {
		t.Errorf("a layer that is a device: %v", err)
	}
}

// broken is a source that fails after some bytes of blobs.
type broken struct {
	convert.Source
	left int
}

var errBroken = errors.New("the registry is gone")

func (b *broken) FetchRange(ctx context.Context, desc ocispec.Descriptor, off, n int64) (io.ReadCloser, error) {
	if b.left--; b.left < 0 {
		return nil, errBroken
	}
	return b.Source.(interface {
		FetchRange(ctx context.Context, desc ocispec.Descriptor, off, n int64) (io.ReadCloser, error)
	}).FetchRange(ctx, desc, off, n)
}

// TestSourceFails: a registry that goes away while files are read is the error that it gives,
// wherever that is.
func TestSourceFails(t *testing.T) {
	h := imagetest.NewHub(t)
	for _, profile := range []erofs.Profile{erofs.ProfileRaw, erofs.ProfileZstd} {
		src := h.Put(t, "it:2", h.Converted(t, "it:1", convert.Options{Profile: profile}, twoLayers(t)[0]))
		failed := 0
		for left := 0; ; left++ {
			files, err := inspect.Open(t.Context(), &broken{src, left}, inspect.Options{})
			if err == nil {
				at, err2 := files.Lstat("wanted")
				if err = err2; err == nil {
					_, err = files.FS.Open(at)
				}
			}
			if err == nil {
				break
			}
			if failed++; !errors.Is(err, errBroken) {
				t.Errorf("%s, after %d requests: %v", profile, left, err)
			}
		}
		if failed < 2 {
			t.Errorf("%s: %d requests", profile, failed)
		}
	}
}
