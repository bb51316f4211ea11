package inspect_test

import (
	"archive/tar"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/inspect"
	"github.com/lithify/lithify/convert/overlay"
	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/test/imagetest"
)

func noise(n int, seed byte) string {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return string(b)
}

// twoLayers have a little text between what does not compress.
func twoLayers(t *testing.T) []v1.Layer {
	contents := map[string]string{"before": noise(9<<20, 1), "wanted": "here", "after": noise(9<<20, 2)}
	return []v1.Layer{
		imagetest.Layer(t, contents, tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}, tar.Header{Name: "before", Mode: 0o644}, tar.Header{Name: "wanted", Mode: 0o600}, tar.Header{Name: "after", Mode: 0o644}),
		imagetest.Layer(t, map[string]string{"top": "top"}, tar.Header{Name: "top", Mode: 0o644}, tar.Header{Name: ".wh.before"}),
	}
}

// names lists all files, and content is that of one.
func names(t *testing.T, files *inspect.Files) string {
	t.Helper()
	var list []string
	err := files.Walk(".", func(f overlay.File) error { list = append(list, f.Path); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(list, " ")
}

func content(t *testing.T, files *inspect.Files, name string) string {
	t.Helper()
	at, err := files.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := files.FS.Open(at)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestFetched: listing an image and reading a file of it fetches the metadata and that file,
// of each profile and dialect, whoever made it; all of a layer only where frames have no index
// that is read here.
func TestFetched(t *testing.T) {
	h := imagetest.NewHub(t)
	layers := twoLayers(t)
	unindexed := func(m *imagetest.Image) {
		for _, d := range m.Manifest.Layers {
			maps.DeleteFunc(d.Annotations, func(k, _ string) bool { return strings.HasPrefix(k, "org.erofs.chunk-index") })
		}
	}
	for name, c := range map[string]struct {
		opts  convert.Options
		alter func(*imagetest.Image)
		most  int64 // bytes
	}{
		"erofs":       {convert.Options{}, nil, 300_000},
		"erofs-tar":   {convert.Options{Profile: erofs.ProfileTar, Dialect: erofs.DialectSpec}, nil, 300_000},
		"zstd":        {convert.Options{Profile: erofs.ProfileZstd}, nil, 20_000},
		"zstd,spec":   {convert.Options{Profile: erofs.ProfileZstd, Dialect: erofs.DialectSpec, Verity: true}, nil, 20_000},
		"zstd,tails":  {convert.Options{Profile: erofs.ProfileZstd, InlineTails: true}, nil, 20_000},
		"no index":    {convert.Options{Profile: erofs.ProfileZstd}, unindexed, 30 << 20},
		"no digest":   {convert.Options{Profile: erofs.ProfileZstd}, func(m *imagetest.Image) { delete(m.Manifest.Layers[0].Annotations, erofs.AnnotationChunkIndexDigest) }, 30 << 20},
		"later index": {convert.Options{Profile: erofs.ProfileZstd}, laterIndex, 30 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			m := h.Converted(t, "it:made", c.opts, layers...)
			if c.alter != nil {
				c.alter(m)
			}
			src := h.Put(t, "it:altered", m)
			h.Sent()
			files, err := inspect.Open(t.Context(), src, inspect.Options{TempDir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			defer files.Close()
			if got := names(t, files); got != ". after top wanted" {
				t.Errorf("files: %q", got)
			}
			if got := content(t, files, "wanted"); got != "here" {
				t.Errorf("wanted: %q", got)
			}
			sent, whole := h.Sent(), m.Manifest.Layers[0].Size
			t.Logf("%d bytes of a layer of %d", sent, whole)
			if sent > c.most || c.most > 1<<20 && sent < whole {
				t.Errorf("%d bytes fetched, want at most %d, or all of %d where frames cannot be found", sent, c.most, whole)
			}
			if got := content(t, files, "after"); got != noise(9<<20, 2) {
				t.Errorf("after: %d bytes, other ones", len(got))
			}
			if sent := h.Sent(); c.most < 1<<20 && (sent < 8<<20 || sent > 10<<20) {
				t.Errorf("%d bytes fetched for a file of 9 MiB", sent)
			}
		})
	}
}

// laterIndex has the first layer's index be of a version that nobody knows yet.
func laterIndex(m *imagetest.Image) { editIndex(m, func(b []byte) { b[4] = 2 }) }

// editIndex changes the first layer's index, without its frame, and its digest with it.
func editIndex(m *imagetest.Image, edit func([]byte)) {
	x, _, err := erofs.ChunkIndexOf(m.Manifest.Layers[0])
	if err != nil {
		panic(err)
	}
	blob := []byte(string(m.Blobs[0]))
	edit(blob[x.Offset+8 : x.End])
	m.Replace(0, blob)
	m.Manifest.Layers[0].Annotations[erofs.AnnotationChunkIndexDigest] = convert.Describe("", blob[x.Offset+8:x.End]).Digest.String()
}

// TestDamaged: what a chunk index says is an error that names the layer where it is not so.
func TestDamaged(t *testing.T) {
	h := imagetest.NewHub(t)
	layers := twoLayers(t)
	for name, c := range map[string]struct {
		alter func(*imagetest.Image)
		says  string
	}{
		"index": {func(m *imagetest.Image) {
			m.Manifest.Layers[0].Annotations[erofs.AnnotationChunkIndexDigest] = convert.Describe("", nil).Digest.String()
		}, "chunk index: digest"},
		"range":  {func(m *imagetest.Image) { m.Manifest.Layers[0].Annotations[erofs.AnnotationChunkIndexRange] = "x" }, `range "x"`},
		"length": {func(m *imagetest.Image) { editIndex(m, func(b []byte) { b[16]++ }) }, "do not hold"},
		"sum":    {func(m *imagetest.Image) { editIndex(m, func(b []byte) { b[32+16]++ }) }, "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			m := h.Converted(t, "it:made", convert.Options{Profile: erofs.ProfileZstd}, layers...)
			c.alter(m)
			_, err := inspect.Open(t.Context(), h.Put(t, "it:altered", m), inspect.Options{})
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), m.Manifest.Layers[0].Digest.String()) {
				t.Errorf("got %v, want one that names the layer and says %q", err, c.says)
			}
			if errors.Is(err, erofs.ErrNoChunkIndex) {
				t.Error("damaged, and said not to be there")
			}
		})
	}
}
