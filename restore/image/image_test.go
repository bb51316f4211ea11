package image_test

import (
	"bytes"
	"io"
	"maps"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/restore/archive"
	"github.com/lithify/lithify/restore/encrypt"
	"github.com/lithify/lithify/restore/image"
	"github.com/lithify/lithify/restore/pages"
	"github.com/lithify/lithify/test/keys"
)

// content is a layer; nobody looks into it.
var content = []byte("memory of a process")

// sealed encrypts the layer for a key's owner.
func sealed(t *testing.T, key keys.Pair) (ocispec.Descriptor, func() (io.ReadCloser, error)) {
	t.Helper()
	return sealedAs(t, key, ocispec.MediaTypeImageLayerZstd)
}

func sealedAs(t *testing.T, key keys.Pair, mediaType string) (ocispec.Descriptor, func() (io.ReadCloser, error)) {
	t.Helper()
	to, err := encrypt.ParseRecipients(key.Public)
	if err != nil {
		t.Fatal(err)
	}
	plain := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
	desc, open, err := to.Seal(plain, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil })
	if err != nil {
		t.Fatal(err)
	}
	return desc, open
}

// unpacked pushes a checkpoint image of a layer, and tells what it is unpacked as by who has the
// keys.
func unpacked(t *testing.T, layer ocispec.Descriptor, open func() (io.ReadCloser, error), private encrypt.Keys) digest.Digest {
	t.Helper()
	dst, err := registry.Create("oci:"+filepath.Join(t.TempDir(), "layout")+":web", registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cp := &archive.Checkpoint{Format: archive.Containerd, Name: "web", Checkpointed: time.Now()}
	if _, err := image.Push(t.Context(), dst, []image.Blob{{Descriptor: layer, DiffID: digest.FromBytes(content), Open: open}}, cp, nil); err != nil {
		t.Fatal(err)
	}
	img, err := image.Open(t.Context(), dst)
	if err == nil {
		err = img.Unlock(private)
	}
	if err != nil {
		t.Fatal(err)
	}
	return img.Unpacked()
}

// A manifest may name any layer, one that is another's and lies decrypted on a machine too. It
// does not have it by that.
func TestUnpacked(t *testing.T) {
	key := keys.EC(t)
	private, err := encrypt.ParseKeys(key.Private)
	if err != nil {
		t.Fatal(err)
	}
	layer, open := sealed(t, key)
	owner := unpacked(t, layer, open, private)
	if again := unpacked(t, layer, open, private); again != owner {
		t.Errorf("the owner finds %s and then %s", owner, again)
	}

	plain := layer
	plain.MediaType = ocispec.MediaTypeImageLayerZstd
	if got := unpacked(t, plain, open, nil); got == owner || got != layer.Digest {
		t.Errorf("who says that it is not encrypted finds %s, want the layer as it is, %s", got, layer.Digest)
	}
	wrapped := layer // by who knows the machine's public key, as everybody does
	other, _ := sealed(t, key)
	wrapped.Annotations = maps.Clone(other.Annotations)
	if got := unpacked(t, wrapped, open, private); got == owner {
		t.Error("who wraps a key of their own finds what the owner has decrypted")
	}
}

// A pack is memory: an archive that is encrypted does not hide what lies beside it.
func TestEncrypted(t *testing.T) {
	layer, open := sealed(t, keys.EC(t))
	plain := image.Blob{
		Descriptor: ocispec.Descriptor{MediaType: pages.MediaType, Digest: digest.FromBytes(content), Size: int64(len(content))},
		Open:       func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
	}
	for name, tc := range map[string]struct {
		layers []image.Blob
		want   bool
	}{
		"encrypted":              {[]image.Blob{{Descriptor: layer, Open: open}}, true},
		"a plain pack beside it": {[]image.Blob{{Descriptor: layer, Open: open}, plain}, false},
	} {
		dst, err := registry.Create("oci:"+filepath.Join(t.TempDir(), "layout")+":web", registry.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := image.Push(t.Context(), dst, tc.layers, &archive.Checkpoint{Format: archive.Containerd, Name: "web", Checkpointed: time.Now()}, nil); err != nil {
			t.Fatal(err)
		}
		img, err := image.Open(t.Context(), dst)
		if err != nil || img.Encrypted() != tc.want {
			t.Errorf("%s: encrypted is %v, want %v: %v", name, img.Encrypted(), tc.want, err)
		}
	}
}

// Packs are decrypted where they are read, by the names that the archive has for them.
func TestPacks(t *testing.T) {
	key := keys.EC(t)
	private, err := encrypt.ParseKeys(key.Private)
	if err != nil {
		t.Fatal(err)
	}
	layer, openLayer := sealed(t, key)
	pack, openPack := sealedAs(t, key, pages.MediaType)
	plain := ocispec.Descriptor{MediaType: pages.MediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
	open := func(packs ...image.Blob) *image.Image {
		t.Helper()
		dst, err := registry.Create("oci:"+filepath.Join(t.TempDir(), "layout")+":web", registry.Options{})
		if err != nil {
			t.Fatal(err)
		}
		layers := append([]image.Blob{{Descriptor: layer, DiffID: plain.Digest, Open: openLayer}}, packs...)
		if _, err := image.Push(t.Context(), dst, layers, &archive.Checkpoint{Format: archive.Containerd, Name: "web", Checkpointed: time.Now()}, nil); err != nil {
			t.Fatal(err)
		}
		img, err := image.Open(t.Context(), dst)
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	img := open(image.Blob{Descriptor: pack, DiffID: plain.Digest, Open: openPack})
	if !img.Encrypted() {
		t.Error("it is not encrypted")
	}
	if err := img.Unlock(nil); !errdefs.IsPermissionDenied(err) {
		t.Errorf("without a key: %v", err)
	}
	if err := img.Unlock(private); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]ocispec.Descriptor{plain}, img.Packs); diff != "" || !img.Encrypted() {
		t.Errorf("packs, unlocked (-want +got):\n%s", diff)
	}
	r, err := img.Pages().FetchRange(t.Context(), plain, 3, 8)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || string(got) != string(content[3:11]) {
		t.Errorf("got %q, %v, want %q", got, err, content[3:11])
	}

	if open(image.Blob{Descriptor: plain, DiffID: plain.Digest, Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }}).Encrypted() {
		t.Error("memory in the open is called encrypted")
	}
}
