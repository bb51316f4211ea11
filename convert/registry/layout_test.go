package registry_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
)

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func blobFile(dir string, d digest.Digest) string {
	return filepath.Join(dir, "blobs", "sha256", d.Encoded())
}

// Of many who make the same tag, in two handles of the layout, one wins; and
// who makes other tags meanwhile loses none of them.
func TestLayoutTagsAtOnce(t *testing.T) {
	dir := t.TempDir()
	type made struct {
		desc ocispec.Descriptor
		raw  []byte
	}
	const writers = 16
	first := mustCreate(t, "oci:"+dir+":same")
	var images []made
	for i := range writers {
		desc, raw := image(t, first, strings.Repeat("x", i), nil)
		images = append(images, made{desc, raw})
	}
	var wg sync.WaitGroup
	won := make(chan digest.Digest, writers)
	for i, m := range images {
		dst := mustCreate(t, "oci:"+dir+":same")
		wg.Go(func() {
			err := dst.Tag(t.Context(), m.desc, m.raw, "")
			if err == nil {
				won <- m.desc.Digest
			} else if !errors.Is(err, convert.ErrTagMoved) {
				t.Errorf("Tag = %v", err)
			}
			own, err := dst.WithTag("own" + string(rune('a'+i)))
			if err == nil {
				err = own.Tag(t.Context(), m.desc, m.raw, "")
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	close(won)
	if len(won) != 1 {
		t.Fatalf("%d writers won, want 1", len(won))
	}
	if got, err := first.Head(t.Context()); err != nil || got.Digest != <-won {
		t.Errorf("the tag names %v, %v", got, err)
	}
	for i, m := range images {
		own, err := first.WithTag("own" + string(rune('a'+i)))
		if err != nil {
			t.Fatal(err)
		}
		wantHead(t, own, m.desc)
	}
	noTemporaries(t, dir)
}

func noTemporaries(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if strings.Contains(filepath.Base(path), ".lithify") {
			t.Errorf("%s was left behind", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What others wrote into index.json stays as it is, to the byte.
func TestLayoutKeepsOthersEntries(t *testing.T) {
	dir := t.TempDir()
	d := digest.FromString("theirs")
	theirs := `{"mediaType":"application/vnd.oci.image.index.v1+json","size":7,"digest":"` + d.String() + `","annotations":{"org.opencontainers.image.ref.name":"theirs"},"x-new-field":{"b":1,"a":[2]}}`
	write(t, filepath.Join(dir, "oci-layout"), `{"imageLayoutVersion":"1.0.0"}`)
	write(t, filepath.Join(dir, "index.json"), `{"schemaVersion":2,"manifests":[`+theirs+`],"annotations":{"k":"v"},"x-top":1}`)
	dst := mustCreate(t, "oci:"+dir+":ours")
	desc, raw := image(t, dst, "ours", nil)
	if err := dst.Tag(t.Context(), desc, raw, ""); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{theirs, `"x-top":1`, `"annotations":{"k":"v"}`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("index.json lost %s:\n%s", want, b)
		}
	}
	wantHead(t, dst, desc)
}

func TestLayoutWithoutTag(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layout")
	dst := mustCreate(t, "oci:"+dir)
	one, raw := image(t, dst, "one", nil)
	one.Annotations = map[string]string{ocispec.AnnotationRefName: "its old name", "kept": "yes"}
	if err := dst.Tag(t.Context(), one, raw, ""); err != nil {
		t.Fatal(err)
	}
	wantHead(t, dst, ocispec.Descriptor{MediaType: one.MediaType, Digest: one.Digest, Size: one.Size})
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil || strings.Contains(string(b), ocispec.AnnotationRefName) || !strings.Contains(string(b), `"kept":"yes"`) {
		t.Errorf("index.json: %s, %v", b, err)
	}
	tagAs(t, dst, "named", one, raw)
	if got, err := mustOpen(t, "oci:"+dir).Root(t.Context()); err != nil || got.Digest != one.Digest {
		t.Errorf("the unnamed image = %v, %v", got, err)
	}

	// One named image is found without its name, two are not.
	dir = filepath.Join(t.TempDir(), "layout")
	dst = mustCreate(t, "oci:"+dir+":v1")
	two, raw := image(t, dst, "two", nil)
	tagAs(t, dst, "v1", two, raw)
	if got, err := mustOpen(t, "oci:"+dir).Root(t.Context()); err != nil || got.Digest != two.Digest {
		t.Errorf("the only image = %v, %v", got, err)
	}
	tagAs(t, dst, "v2", two, raw)
	_, err = mustOpen(t, "oci:"+dir).Root(t.Context())
	if !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), `"v1", "v2"`) {
		t.Errorf("two images: %v", err)
	}
	_, err = mustOpen(t, "oci:"+dir+":v3").Root(t.Context())
	if !errors.Is(err, convert.ErrNotFound) || !strings.Contains(err.Error(), `"v1", "v2"`) {
		t.Errorf("no such tag: %v", err)
	}
	// By digest, an image needs no entry at all.
	three, _ := image(t, dst, "three", nil)
	got, err := mustOpen(t, "oci:"+dir+"@"+three.Digest.String()).Root(t.Context())
	if diff := cmp.Diff(three, got); diff != "" || err != nil {
		t.Errorf("by digest (-want +got):\n%s%v", diff, err)
	}
}

func TestLayoutAdopt(t *testing.T) {
	dir := t.TempDir()
	dst := mustCreate(t, "oci:"+filepath.Join(dir, "layout")+":v1").(*registry.Layout)
	desc := describe("application/octet-stream", "converted")
	blob := blobFile(filepath.Join(dir, "layout"), desc.Digest)

	half := openFile(t, filepath.Join(dir, "half"), "half")
	if done, err := dst.Adopt(t.Context(), desc, half); done || err == nil {
		t.Errorf("a file of another size: Adopt = %v, %v", done, err)
	}
	file := openFile(t, filepath.Join(dir, "whole"), "converted")
	done, err := dst.Adopt(t.Context(), desc, file)
	if err != nil || done != (runtime.GOOS == "linux") {
		t.Fatalf("Adopt = %v, %v", done, err)
	}
	if !done {
		return
	}
	if got := fetch(t, dst, desc); got != "converted" {
		t.Errorf("got %q", got)
	}
	was, _ := file.Stat()
	info, err := os.Stat(blob)
	if err != nil || !os.SameFile(info, was) {
		t.Errorf("the file was copied: %v", err)
	}
	if info.Mode().Perm() != 0o644 {
		t.Errorf("the blob has mode %v", info.Mode())
	}
	if done, err := dst.Adopt(t.Context(), desc, half); !done || err != nil {
		t.Errorf("a blob that is there: Adopt = %v, %v", done, err)
	}
	write(t, blob, "cut")
	if done, err := dst.Adopt(t.Context(), desc, openFile(t, filepath.Join(dir, "again"), "converted")); !done || err != nil {
		t.Errorf("in the place of a cut blob: Adopt = %v, %v", done, err)
	}
	if got := fetch(t, dst, desc); got != "converted" {
		t.Errorf("in the place of a cut blob: got %q", got)
	}
	noTemporaries(t, filepath.Join(dir, "layout"))

	far, err := os.CreateTemp("/dev/shm", "lithify")
	if err != nil {
		t.Skipf("no second file system: %v", err)
	}
	defer os.Remove(far.Name())
	defer far.Close()
	far.WriteString("elsewhere")
	if done, err := dst.Adopt(t.Context(), describe("application/octet-stream", "elsewhere"), far); done || err != nil {
		t.Errorf("across file systems: Adopt = %v, %v", done, err)
	}
}

func openFile(t *testing.T, name, text string) *os.File {
	t.Helper()
	write(t, name, text)
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// A blob that a crash cut off is written again.
func TestLayoutMendsCutBlobs(t *testing.T) {
	dir := t.TempDir()
	dst := mustCreate(t, "oci:"+dir+":v1")
	push(t, dst, describe("application/octet-stream", "other"), "other")
	desc := describe("application/octet-stream", "whole")
	write(t, blobFile(dir, desc.Digest), "who")
	if has, err := dst.Has(t.Context(), desc); has || err != nil {
		t.Errorf("Has of half a blob = %v, %v", has, err)
	}
	if err := dst.Push(t.Context(), desc, opener("wrong")); err == nil {
		t.Error("other bytes were pushed")
	}
	noTemporaries(t, dir)
	push(t, dst, desc, "whole")
	if got := fetch(t, dst, desc); got != "whole" {
		t.Errorf("got %q", got)
	}
}

// Who died while beginning a layout left a file without a version.
func TestLayoutMendsItsVersion(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "oci-layout"), "")
	dst := mustCreate(t, "oci:"+dir+":v1")
	for _, content := range []string{"one", "two"} { // the second finds it mended
		desc, raw := image(t, dst, content, nil)
		was, err := dst.Head(t.Context())
		if err != nil && !errors.Is(err, convert.ErrNotFound) {
			t.Fatal(err)
		}
		if err := dst.Tag(t.Context(), desc, raw, was.Digest); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, "oci-layout"))
		if want := `{"imageLayoutVersion":"1.0.0"}`; err != nil || string(got) != want {
			t.Errorf("oci-layout: %q, %v, want %q", got, err, want)
		}
	}
}

func TestLayoutStaysInside(t *testing.T) {
	outside := t.TempDir()
	desc := describe("application/octet-stream", "a secret")
	write(t, filepath.Join(outside, desc.Digest.Encoded()), "a secret")
	write(t, filepath.Join(outside, "index.json"), `{"schemaVersion":2,"manifests":[]}`)
	links := map[string]string{
		"blobs/sha256":                          outside,
		"blobs/sha256/" + desc.Digest.Encoded(): filepath.Join(outside, desc.Digest.Encoded()),
	}
	for at, to := range links {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "oci-layout"), `{"imageLayoutVersion":"1.0.0"}`)
		write(t, filepath.Join(dir, "index.json"), `{"schemaVersion":2,"manifests":[]}`)
		link := filepath.Join(dir, filepath.FromSlash(at))
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, link); err != nil {
			t.Skipf("symbolic links: %v", err)
		}
		dst := mustCreate(t, "oci:"+dir+":v1")
		if rc, err := dst.Fetch(t.Context(), desc); err == nil {
			rc.Close()
			t.Errorf("%s -> %s was read", at, to)
		}
		if has, _ := dst.Has(t.Context(), desc); has {
			t.Errorf("%s -> %s is there", at, to)
		}
		other := describe("application/octet-stream", "written")
		err := dst.Push(t.Context(), other, opener("written"))
		if _, serr := os.Stat(filepath.Join(outside, other.Digest.Encoded())); serr == nil {
			t.Errorf("%s -> %s: written outside (%v)", at, to, err)
		}
		file := filepath.Join(dir, "file")
		dst.(*registry.Layout).Adopt(t.Context(), other, openFile(t, file, "written"))
		if _, serr := os.Stat(filepath.Join(outside, other.Digest.Encoded())); serr == nil {
			t.Errorf("%s -> %s: adopted outside", at, to)
		}
	}
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(outside, "index.json"), filepath.Join(dir, "index.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := registry.Open("oci:"+dir, options()); err == nil {
		t.Error("an index.json outside was read")
	}
}

func TestRefusedLayouts(t *testing.T) {
	home := t.TempDir()
	write(t, filepath.Join(home, "thesis.tex"), "")
	if _, err := registry.Create("oci:"+home+":v1", options()); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("a directory of other things: %v", err)
	}
	if _, err := registry.Open("oci:"+home, options()); !errors.Is(err, convert.ErrNotFound) {
		t.Errorf("no layout: %v", err)
	}
	for name, index := range map[string]string{
		"text": "x", "null": "null", "array": "[]", "string entries": `{"manifests":["x"]}`,
		"a path for a digest": `{"manifests":[{"digest":"sha256:../../x","size":1}]}`,
		"no digest":           `{"manifests":[{}]}`,
		"a negative size":     `{"manifests":[{"digest":"` + digest.FromString("").String() + `","size":-1}]}`,
		"5 MiB":               strings.Repeat(" ", 5<<20),
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "index.json"), index)
		if _, err := registry.Open("oci:"+dir, options()); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: %v, want ErrInvalidArgument", name, err)
		}
	}
}

// skopeo reads what is written here.
func TestSkopeoReadsLayouts(t *testing.T) {
	skopeo := needSkopeo(t)
	dir := filepath.Join(t.TempDir(), "layout")
	dst := mustCreate(t, "oci:"+dir+":v1")
	desc, raw := image(t, dst, "x", nil)
	tagAs(t, dst, "v1", desc, raw)
	out, err := exec.Command(skopeo, "inspect", "--raw", "oci:"+dir+":v1").Output()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(raw), string(out)); diff != "" {
		t.Errorf("skopeo reads (-want +got):\n%s", diff)
	}
	var index ocispec.Index
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err == nil {
		err = json.Unmarshal(b, &index)
	}
	if err != nil || index.SchemaVersion != 2 {
		t.Errorf("index.json: %s, %v", b, err)
	}
}

func needSkopeo(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("skopeo")
	if err != nil {
		t.Skipf("skopeo: %v", err)
	}
	return path
}
