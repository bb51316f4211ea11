package erofs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/erofs/erofstest"
	"github.com/lithify/lithify/test/corpus"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestIndexGolden holds the bytes still: a change here needs a new WriterVersion.
func TestIndexGolden(t *testing.T) {
	_, l := mustConvert(t, oddLayer(t), erofs.Options{Profile: erofs.ProfileIndex, Carrier: digest.FromString("blob")})
	const want = "sha256:c3c0c8cb348c725b4a049ddf6d5165f31dffe5fb91249abef3a068819353f677"
	if l.Digest != want {
		t.Errorf("got %s, want %s: if the format was meant to change, change erofs.WriterVersion", l.Digest, want)
	}
}

// The device's slot says which blob has the tar, and the tar stays where it is.
func TestIndexSlot(t *testing.T) {
	src := oddLayer(t)
	for carrier, want := range map[digest.Digest]string{
		digest.FromString("blob"):        digest.FromString("blob").Encoded(),
		digest.SHA512.FromString("blob"): digest.SHA512.FromString("blob").Encoded()[:64],
		"":                               digest.FromBytes(src).Encoded(),
	} {
		f, l := mustConvert(t, src, erofs.Options{Profile: erofs.ProfileIndex, Carrier: carrier})
		blob := blobOf(t, f)
		if got := string(blob[1152 : 1152+64]); got != want {
			t.Errorf("of %q the tag is %q, want %q", carrier, got, want)
		}
		if l.Size > int64(len(src))/2 || bytes.Contains(blob, []byte(strings.Repeat("0123456789abcdef", 100))) {
			t.Errorf("%d bytes of %d: the files are in the image", l.Size, len(src))
		}
	}
	if _, _, err := convert(t, bytes.NewReader(src), erofs.Options{Profile: erofs.ProfileIndex, Carrier: "sha256:x"}); err == nil {
		t.Error("a carrier of no digest is taken")
	}
}

// Metadata are read without the tar, and no file is.
func TestIndexAlone(t *testing.T) {
	src := makeTar(t, dir("d", 0o755), file("d/f", "content"), symlink("l", "d/f"))
	f, l := mustConvert(t, src, erofs.Options{Profile: erofs.ProfileIndex})
	super, meta, err := erofs.ReadMetadata(f, l)
	if err != nil {
		t.Fatal(err)
	}
	alone, err := erofs.OpenMetadata(super, meta, l.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := alone.Lstat("d/f"); err != nil || info.Size() != 7 {
		t.Errorf("got %v, %v", info, err)
	}
	if _, err := fs.ReadFile(alone, "d/f"); !errors.Is(err, erofs.ErrMetadataOnly) {
		t.Errorf("got %v, want that there is no file", err)
	}
	bare, err := erofs.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := fs.ReadFile(bare, "d/f"); err == nil {
		t.Errorf("read %q out of an image without its tar", b)
	}
	tree, err := erofs.Open(whole(t, f, l, src))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := fs.ReadFile(tree, "d/f"); err != nil || string(b) != "content" {
		t.Errorf("got %q, %v", b, err)
	}
}

// What is not in whole blocks of the tar a device would not show.
func TestIndexCutTar(t *testing.T) {
	src := makeTar(t, file("a", strings.Repeat("a", 600)))
	cut := src[:len(src)-1024-(1024-600)]
	var entry *erofs.EntryError
	if _, _, err := convert(t, bytes.NewReader(cut), erofs.Options{Profile: erofs.ProfileIndex}); !errors.As(err, &entry) || entry.Name != "a" {
		t.Errorf("got %v, want that a is refused", err)
	}
	checkIndex(t, append(src, "behind the archive"...), erofs.Options{})
	checkIndex(t, nil, erofs.Options{})
}

func checkIndex(t *testing.T, src []byte, opts erofs.Options) {
	t.Helper()
	opts.Profile = erofs.ProfileIndex
	f, l := mustConvert(t, src, opts)
	want, _, err := erofstest.FromTar(bytes.NewReader(src), false)
	if err != nil {
		t.Fatal(err)
	}
	got, err := erofstest.FromImage(whole(t, f, l, src))
	if err != nil {
		t.Fatal(err)
	}
	if d := erofstest.Diff(got, want); d != "" {
		t.Errorf("trees differ:\n%s", d)
	}
}

// Sparse files stay in the tar where that has them in blocks; lower files are in the image.
func TestIndexBesidesTheTar(t *testing.T) {
	block := func(off int64, n int) sparsePiece { return sparsePiece{off, strings.Repeat("d", n)} }
	checkImage(t, rawTar(file512("before"), gnuSparse("mapped", 5<<20, block(4096, 8192), block(2<<20, 4096)),
		gnuSparse("expanded", 5<<20, block(4097, 8192), block(2<<20, 4096)), file512("after")), erofs.Options{})

	body := strings.Repeat("lower ", 3000)
	lower := erofs.LowerFile{Attr: erofs.Attr{Mode: 0o640}, Size: int64(len(body)), ModTime: someTime, Digest: digest.FromString(body),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil }}
	src := makeTar(t, hardlink("a", "low"), file("mine", "x"))
	f, l := mustConvert(t, src, erofs.Options{Profile: erofs.ProfileIndex, Context: &erofs.Context{Links: map[string]erofs.LowerFile{"low": lower}}})
	tree, err := erofs.Open(whole(t, f, l, src))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": body, "mine": "x"} {
		if got, err := fs.ReadFile(tree, name); err != nil || string(got) != want {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

func TestJoinRefuses(t *testing.T) {
	f, _ := mustConvert(t, oddLayer(t), erofs.Options{})
	if _, _, err := erofs.Join(f, bytes.NewReader(nil)); err == nil {
		t.Error("an image without a device is joined with a tar")
	}
	g, _ := mustConvert(t, oddLayer(t), erofs.Options{Profile: erofs.ProfileIndex})
	blob := blobOf(t, g)
	for name, damage := range map[string]func([]byte){
		"nowhere":      func(b []byte) { clear(b[1152+68 : 1152+72]) },
		"too many":     func(b []byte) { b[1024+87] = 1 },
		"no such slot": func(b []byte) { b[1024+88], b[1024+89] = 0xff, 0xff },
	} {
		bad := bytes.Clone(blob)
		damage(bad)
		if _, err := erofs.Open(bytes.NewReader(bad)); err == nil {
			t.Errorf("%s: opened", name)
		}
		if _, _, err := erofs.Join(bytes.NewReader(bad), bytes.NewReader(nil)); err == nil {
			t.Errorf("%s: joined", name)
		}
	}
	if _, _, err := erofs.Join(strings.NewReader("short"), bytes.NewReader(nil)); err == nil {
		t.Error("five bytes are joined with a tar")
	}
	if _, err := os.Stat(g.Name()); err != nil {
		t.Fatal(err)
	}
}

func TestMountedOf(t *testing.T) {
	layer := func(mt, role string) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: mt, Digest: digest.FromString(mt + role)}
		if role != "" {
			d.Annotations = map[string]string{erofs.AnnotationRole: role}
		}
		return d
	}
	tar := erofs.Carrier(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString("tar"), Annotations: map[string]string{"kept": "1"}})
	if tar.Annotations["kept"] != "1" || tar.Annotations[erofs.AnnotationRole] != "device" {
		t.Errorf("the carrier's annotations are %v", tar.Annotations)
	}
	low, top := layer(erofs.MediaTypeImage, "overlay-lower"), layer(erofs.MediaTypeImage, "")
	got, err := erofs.MountedOf([]ocispec.Descriptor{low, tar, tar, low, tar, top})
	want := []erofs.Mounted{{low, nil, 0}, {low, []ocispec.Descriptor{tar, tar}, 3}, {top, []ocispec.Descriptor{tar}, 5}}
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	for name, layers := range map[string][]ocispec.Descriptor{
		"a device at the end": {top, tar},
		"a tar":               {layer(ocispec.MediaTypeImageLayer, ""), top},
		"another role":        {layer(erofs.MediaTypeImage, "overlay-data"), top},
		"a chunk index":       {layer(erofs.MediaTypeChunkIndex, ""), top},
	} {
		if _, err := erofs.MountedOf(layers); err == nil || !strings.Contains(err.Error(), "sha256:") {
			t.Errorf("%s: got %v, want an error that names the layer", name, err)
		}
	}
}

// TestIndexSize: an image takes less than a hundredth of the tar where the mean file has 64
// KiB. What it takes of layers with smaller files is printed.
func TestIndexSize(t *testing.T) {
	var entries []entry
	for i := range 2000 {
		entries = append(entries, file(fmt.Sprintf("usr/share/package-%d/file-%d.dat", i/20, i), strings.Repeat("x", i*64)))
	}
	tars := map[string]io.Reader{"64 KiB": bytes.NewReader(makeTar(t, entries...))}
	for _, name := range []string{"debian", "go", "node_modules"} {
		if testing.Short() && name != "debian" {
			continue
		}
		l, err := corpus.Open(t.Context(), name)
		if err != nil {
			t.Log(err)
			continue
		}
		src, err := os.Open(l.Path(corpus.Tar))
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		tars[name] = src
		t.Logf("%s: as the registry has it %d bytes", name, l.Blobs[corpus.Gzip].Size)
	}
	for name, src := range tars {
		_, l, err := convert(t, src, erofs.Options{Profile: erofs.ProfileIndex})
		if err != nil {
			t.Fatal(err)
		}
		part, mean := float64(l.Size)/float64(l.TarSize), l.TarSize/int64(l.Entries)
		t.Logf("%s: %d bytes for %d entries of %d bytes of tar on average, %.2f %% of the tar", name, l.Size, l.Entries, mean, 100*part)
		if mean >= 64<<10 && part >= 0.01 {
			t.Errorf("%s: %.4f of the tar, want less than 0.01", name, part)
		}
	}
}
