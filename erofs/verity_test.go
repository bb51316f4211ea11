package erofs_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/klauspost/compress/zstd"
	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/erofs/erofstest"
	"github.com/lithify/lithify/erofs/verity"
	"github.com/opencontainers/go-digest"
)

// TestVerity: the image is that without a tree, the tree is what cryptsetup accepts,
// and the record tells both.
func TestVerity(t *testing.T) {
	for name, src := range map[string][]byte{"odd": oddLayer(t), "empty": {}} {
		plain, without := mustConvert(t, src, erofs.Options{})
		image := blobOf(t, plain)
		for _, profile := range []erofs.Profile{erofs.ProfileRaw, erofs.ProfileZstd} {
			t.Run(name+"/"+string(profile), func(t *testing.T) {
				f, l := mustConvert(t, src, erofs.Options{Profile: profile, Verity: true})
				stream := uncompressed(t, f, l)
				if !bytes.HasPrefix(stream, image) || l.Verity == nil || l.Verity.HashOffset != int64(len(image)) {
					t.Fatalf("%+v: the image of %d bytes is not what the stream begins with", l.Verity, len(image))
				}
				if got, want := int64(len(stream)), int64(len(image))+verity.Size(int64(len(image))); got != want {
					t.Errorf("%d bytes with the tree, want %d", got, want)
				}
				if l.ImageDigest != digest.FromBytes(stream) || l.ImageSize != int64(len(stream)) {
					t.Errorf("ImageDigest %s of %d bytes are not of the whole stream", l.ImageDigest, l.ImageSize)
				}
				if d := cmp.Diff(without.Metadata, l.Metadata, cmpopts.IgnoreFields(erofs.Span{}, "BlobOffset")); d != "" {
					t.Errorf("metadata (-without +with):\n%s", d)
				}
				if super, _, err := erofs.ReadMetadata(f, l); err != nil || !bytes.Equal(super, image[:4096]) {
					t.Errorf("metadata cannot be read: %v", err)
				}
				t.Run("veritysetup", func(t *testing.T) { checkVerity(t, stream, l) })
				t.Run("fsverity", func(t *testing.T) { checkFSVerity(t, f, l) })
			})
		}
	}
}

// uncompressed is the whole of a blob, without the frames it may lie in.
func uncompressed(t testing.TB, f *os.File, l *erofs.Layer) []byte {
	t.Helper()
	blob, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if digest.FromBytes(blob) != l.Digest || int64(len(blob)) != l.Size {
		t.Errorf("blob of %d bytes does not match the record %s of %d", len(blob), l.Digest, l.Size)
	}
	if l.Profile == erofs.ProfileRaw {
		return blob
	}
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	stream, err := dec.DecodeAll(blob, nil)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// checkVerity has veritysetup verify the tree, and fsck.erofs the image before it.
func checkVerity(t *testing.T, stream []byte, l *erofs.Layer) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stream")
	if err := os.WriteFile(path, stream, 0o600); err != nil {
		t.Fatal(err)
	}
	erofstest.Fsck(t, path)
	veritysetup := erofstest.Program(t, "veritysetup")
	verify := func(root string) ([]byte, error) {
		return exec.CommandContext(t.Context(), veritysetup, "verify", path, path, root, fmt.Sprint("--hash-offset=", l.Verity.HashOffset)).CombinedOutput()
	}
	if out, err := verify(l.Verity.RootDigest.Encoded()); err != nil {
		t.Errorf("veritysetup: %v\n%s", err, out)
	}
	if out, err := verify(digest.FromString("other").Encoded()); err == nil {
		t.Errorf("veritysetup accepts another root digest: %s", out)
	}
}

func checkFSVerity(t testing.TB, f *os.File, l *erofs.Layer) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), erofstest.Program(t, "fsverity"), "digest", "--compact", f.Name()).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := l.FSVerity.Encoded(), strings.TrimSpace(string(out)); got != want {
		t.Errorf("fs-verity digest %s, and fsverity says %s", got, want)
	}
}

// TestVerityDeterminism: neither goroutines nor where digests are read from show.
func TestVerityDeterminism(t *testing.T) {
	src := oddLayer(t)
	for _, profile := range []erofs.Profile{erofs.ProfileRaw, erofs.ProfileZstd} {
		_, want := mustConvert(t, src, erofs.Options{Profile: profile, Verity: true})
		for _, serial := range []bool{false, true} {
			for _, n := range []int{1, 8} {
				old := runtime.GOMAXPROCS(n)
				_, got := mustConvert(t, src, erofs.Options{Profile: profile, Verity: true, Serial: serial})
				runtime.GOMAXPROCS(old)
				if d := cmp.Diff(want, got); d != "" {
					t.Errorf("%s, serial %v, %d processors (-want +got):\n%s", profile, serial, n, d)
				}
			}
		}
		var mem memFile
		got, err := erofs.Convert(t.Context(), &mem, bytes.NewReader(src), erofs.Options{Profile: profile, Verity: true})
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%s, in memory: %v (-want +got):\n%s", profile, err, d)
		}
	}
}

func TestVerityOfNoDigests(t *testing.T) {
	if _, _, err := convert(t, bytes.NewReader(nil), erofs.Options{Verity: true, Unhashed: true}); err == nil {
		t.Error("a tree was made without hashes")
	}
}
