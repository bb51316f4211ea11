package convert_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/proof"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// exported is what a cache has after an export, by path: sizes of files.
func exported(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	files := map[string]int64{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode() != 0o644 {
			t.Errorf("%s is %v, want it for everybody to read", name, info.Mode())
		}
		rel, err := filepath.Rel(dir, name)
		files[filepath.ToSlash(rel)] = info.Size()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func cachePath(d digest.Digest) string {
	return "sha256/" + d.Encoded()[:2] + "/" + d.Encoded() + ".erofs"
}

func states(r *convert.CacheResult) (list []string) {
	for _, l := range r.Layers {
		list = append(list, l.State)
	}
	return list
}

// fetches counts what is fetched of a source.
type fetches struct {
	convert.Source
	n atomic.Int64
}

func (f *fetches) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	f.n.Add(d.Size)
	return f.Source.Fetch(ctx, d)
}

// TestExportCache exports twice: what is there stays, is not made again, and not even fetched.
func TestExportCache(t *testing.T) {
	h := newHub(t)
	base := gz(t, file{name: "./", mode: 0o755}, file{name: "etc/", mode: 0o755}, file{name: "etc/a", body: strings.Repeat("a", 300_000)})
	top := gz(t, file{name: "etc/", mode: 0o755}, file{name: "etc/b", body: "b"}, file{name: "etc/.wh.a"})
	tag(t, h.target("app:1"), manifest(t, h.target("app:1"), "linux", "amd64", base, top))
	for _, verity := range []bool{false, true} {
		dir := filepath.Join(t.TempDir(), "cache")
		opts := convert.Options{AllPlatforms: true, Verity: verity, TempDir: t.TempDir()}
		r := must(convert.ExportCache(t.Context(), h.source("app:1"), dir, opts))(t)
		if got := states(r); !slices.Equal(got, []string{"written", "written"}) || r.Layers[0].Verified == nil || r.Layers[0].Verified.By != proof.Version {
			t.Errorf("verity %v: %v, %+v", verity, got, r.Layers)
		}
		files := exported(t, dir)
		want := map[string]bool{cachePath(base.diffID): true, cachePath(top.diffID): true}
		if verity {
			want[cachePath(base.diffID)+".dmverity"], want[cachePath(top.diffID)+".dmverity"] = true, true
		}
		for name := range files {
			if !want[name] {
				t.Errorf("%s is in the cache", name)
			}
			delete(want, name)
		}
		for name := range want {
			t.Errorf("%s is not in the cache", name)
		}
		for _, l := range r.Layers {
			f := must(os.Open(filepath.Join(dir, filepath.FromSlash(cachePath(l.DiffID)))))(t)
			tree := must(erofs.Open(f))(t)
			if _, err := fs.Stat(tree, "etc"); err != nil {
				t.Error(err)
			}
			f.Close()
		}
		// The sidecar is what --verity's annotations are for a variant.
		if verity {
			made := convertTo(t, h.source("app:1"), h.target("app:2"), convert.Options{AllPlatforms: true, Verity: true})
			v := made.Variants[0].Layers[1].Verity // of the top layer, which is the same over others
			var got struct {
				RootHash   string `json:"roothash"`
				HashOffset int64  `json:"hashoffset"`
			}
			if err := json.Unmarshal(must(os.ReadFile(filepath.Join(dir, cachePath(top.diffID)+".dmverity")))(t), &got); err != nil || got.RootHash != v.RootDigest.Encoded() || got.HashOffset != v.HashOffset {
				t.Errorf("%v: beside the layer is %+v, want %+v", err, got, v)
			}
		}
		src := &fetches{Source: h.source("app:1")}
		before := must(os.Stat(filepath.Join(dir, cachePath(base.diffID))))(t)
		r = must(convert.ExportCache(t.Context(), src, dir, opts))(t)
		if got := states(r); !slices.Equal(got, []string{"there", "there"}) || r.Layers[0].Size != before.Size() || r.Layers[0].Why != "" {
			t.Errorf("again: %+v", r.Layers)
		}
		if n := src.n.Load(); n > 2000 {
			t.Errorf("again: %d bytes fetched", n)
		}
		if d := cmp.Diff(files, exported(t, dir)); d != "" || !os.SameFile(before, must(os.Stat(filepath.Join(dir, cachePath(base.diffID))))(t)) {
			t.Errorf("again: the cache has changed: %s", d)
		}
		if verity {
			continue
		}
		opts.Verity = true
		r = must(convert.ExportCache(t.Context(), h.source("app:1"), dir, opts))(t)
		if !strings.Contains(r.Layers[0].Why, "dm-verity") || cmp.Diff(files, exported(t, dir)) != "" {
			t.Errorf("trees for what is there without: %+v", r.Layers)
		}
	}
}

// TestExportCacheContext leaves out what is another layer over others, and what is above it is
// looked at over what a container would see.
func TestExportCacheContext(t *testing.T) {
	h := newHub(t)
	base := gz(t, file{name: "./", mode: 0o755}, file{name: "etc/", mode: 0o700}, file{name: "etc/a", body: "a"})
	omits := gz(t, file{name: "./", mode: 0o755}, file{name: "etc/b", body: "b"})
	links := gz(t, file{name: "./", mode: 0o755}, file{name: "c => etc/b"})
	hides := gz(t, file{name: "./", mode: 0o755}, file{name: ".wh..wh..opq"}, file{name: "d", body: "d"})
	rootless := gz(t, file{name: "e", body: "e"})
	other := gz(t, file{name: "./", mode: 0o711})
	tag(t, h.target("app:1"), manifest(t, h.target("app:1"), "linux", "amd64", base, omits, links, hides, rootless, other))
	dir := t.TempDir()
	opts := convert.Options{AllPlatforms: true, TempDir: t.TempDir()}
	r := must(convert.ExportCache(t.Context(), h.source("app:1"), dir, opts))(t)
	if got, want := states(r), []string{"written", "left out", "left out", "left out", "written", "written"}; !slices.Equal(got, want) {
		t.Fatalf("%q, want %q: %+v", got, want, r.Layers)
	}
	for i, want := range map[int]string{1: "(etc)", 2: "etc/b", 3: "hides"} {
		if !strings.Contains(r.Layers[i].Why, want) || r.Layers[i].File != "" {
			t.Errorf("layer %d: %+v, want that it says %q", i, r.Layers[i], want)
		}
	}
	if got := len(exported(t, dir)); got != 3 {
		t.Errorf("%d files, want 3: %v", got, exported(t, dir))
	}
	fresh := t.TempDir()
	tag(t, h.target("app:2"), manifest(t, h.target("app:2"), "linux", "amd64", other, rootless))
	r = must(convert.ExportCache(t.Context(), h.source("app:2"), fresh, opts))(t)
	if got := states(r); !slices.Equal(got, []string{"written", "left out"}) || !strings.Contains(r.Layers[1].Why, "root") || len(exported(t, fresh)) != 1 {
		t.Errorf("over a root of 0711: %q, %+v", got, r.Layers)
	}
	if left := must(os.ReadDir(opts.TempDir))(t); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestExportCacheLeavesNothing has no file that is not whole, whatever goes wrong.
func TestExportCacheLeavesNothing(t *testing.T) {
	h := newHub(t)
	twoLayers(t, h, "app:1")
	lies := gz(t, file{name: "a", body: "a"})
	lies.diffID = digest.FromString("other")
	tag(t, h.target("lies:1"), manifest(t, h.target("lies:1"), "linux", "amd64", lies))
	dir := t.TempDir()
	opts := convert.Options{AllPlatforms: true}
	if _, err := convert.ExportCache(t.Context(), h.source("lies:1"), dir, opts); !convert.Permanent(err) {
		t.Errorf("another tar than the config says: %v", err)
	}
	damaged := convert.WithWritten(opts, func(f *os.File, l *erofs.Layer) {
		if _, err := f.WriteAt([]byte{0xff}, 4096+5); err != nil {
			t.Error(err)
		}
	})
	if _, err := convert.ExportCache(t.Context(), h.source("app:1"), dir, damaged); !errors.As(err, new(*proof.DifferError)) {
		t.Errorf("a writer at fault: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancelled := convert.WithWritten(opts, func(*os.File, *erofs.Layer) { cancel() })
	if _, err := convert.ExportCache(ctx, h.source("app:1"), dir, cancelled); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if files := exported(t, dir); len(files) > 0 {
		t.Errorf("left behind: %v", files)
	}
}

// TestExportCacheUnreadable: what cannot be looked into, which may be compressed, is there all
// the same, and a killed export's file without a layer is not taken for one's.
func TestExportCacheUnreadable(t *testing.T) {
	h := newHub(t)
	base := gz(t, file{name: "./", mode: 0o755}, file{name: "a", body: "a"})
	top := gz(t, file{name: "b", body: "b"})
	tag(t, h.target("app:1"), manifest(t, h.target("app:1"), "linux", "amd64", base, top))
	dir := t.TempDir()
	for name, content := range map[string]string{cachePath(base.diffID): "compressed", cachePath(top.diffID) + ".dmverity": "{}"} {
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	r := must(convert.ExportCache(t.Context(), h.source("app:1"), dir, convert.Options{AllPlatforms: true}))(t)
	if got := states(r); !slices.Equal(got, []string{"there", "written"}) || !strings.Contains(r.Layers[0].Why, "looked into") {
		t.Errorf("%+v", r.Layers)
	}
	if files := exported(t, dir); len(files) != 2 || files[cachePath(base.diffID)] != int64(len("compressed")) || files[cachePath(top.diffID)] == 0 {
		t.Errorf("the cache has %v", files)
	}
}

// TestExportCacheOneAtATime: two exports would mix what lies beside their layers.
func TestExportCacheOneAtATime(t *testing.T) {
	h := newHub(t)
	twoLayers(t, h, "app:1")
	dir := t.TempDir()
	other := must(os.Open(dir))(t)
	if err := unix.Flock(int(other.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	var conflict *convert.ConflictError
	if _, err := convert.ExportCache(t.Context(), h.source("app:1"), dir, convert.Options{AllPlatforms: true}); !errors.As(err, &conflict) {
		t.Errorf("got %v, want that another export is at it", err)
	}
	other.Close()
	if _, err := convert.ExportCache(t.Context(), h.source("app:1"), dir, convert.Options{AllPlatforms: true}); err != nil {
		t.Error(err)
	}
}

// TestDiffIDs: what a config says of its layers becomes the name of a file.
func TestDiffIDs(t *testing.T) {
	h := newHub(t)
	for i, id := range []digest.Digest{"", "nothing", "sha256:../../../../etc/passwd", "../..:" + digest.Digest(digest.FromString("").Encoded())} {
		layer := gz(t, file{name: "a", body: "a"})
		layer.diffID = id
		ref := fmt.Sprintf("app:%d", i)
		tag(t, h.target(ref), manifest(t, h.target(ref), "linux", "amd64", layer))
		_, err := convert.ExportCache(t.Context(), h.source(ref), t.TempDir(), convert.Options{AllPlatforms: true})
		if err == nil || !convert.Permanent(err) || !strings.Contains(err.Error(), fmt.Sprintf("%q", id)) {
			t.Errorf("cache, diffID %q: got %v, want a refusal that names it", id, err)
		}
		if _, err := convert.Image(t.Context(), h.source(ref), h.target(ref), convert.Options{AllPlatforms: true}); err == nil || !convert.Permanent(err) {
			t.Errorf("conversion, diffID %q: got %v, want a refusal", id, err)
		}
	}
}
