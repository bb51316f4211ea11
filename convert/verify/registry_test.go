//go:build linux

package verify_test

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/convert/verify"
	"github.com/lithify/lithify/erofs"
)

// TestRegistry compares images with their variants in a registry: real layers, and small ones
// that delete, empty, link and leave out.
func TestRegistry(t *testing.T) {
	p := newPlace(t)
	for name, c := range map[string]struct {
		make    func(*testing.T) v1.Image
		profile erofs.Profile
		files   int
	}{
		"small-index": {func(t *testing.T) v1.Image { return image(t, built(t, lower), built(t, changes)) }, erofs.ProfileIndex, 13},
		"small":       {func(t *testing.T) v1.Image { return image(t, built(t, lower), built(t, changes)) }, erofs.ProfileRaw, 13},
		"small-zstd":  {func(t *testing.T) v1.Image { return image(t, built(t, lower), built(t, changes)) }, erofs.ProfileZstd, 13},
		"debian":      {func(t *testing.T) v1.Image { return image(t, real(t, "debian"), built(t, changes)) }, erofs.ProfileZstd, 0},
		"odd":         {func(t *testing.T) v1.Image { return image(t, built(t, lower), real(t, "odd"), built(t, changes)) }, erofs.ProfileRaw, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if c.files == 0 && testing.Short() {
				t.Skip("builds and reads a large layer: long lane")
			}
			p.push(t, c.make(t), name+":1")
			p.convert(t, name+":1", name+":erofs", convert.Options{Profile: c.profile, Dialect: dialectOf(c.profile)})
			r, err := verify.Registry(t.Context(), p.open(t, name+":erofs"), nil, t.TempDir(), verify.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range r.Variants[0].Differences {
				t.Error(d)
			}
			if v := r.Variants[0]; v.Layers < 2 || v.Files < 10 || c.files > 0 && v.Files != c.files {
				t.Errorf("%d layers, %d files", v.Layers, v.Files)
			}
		})
	}
}

func dialectOf(p erofs.Profile) erofs.Dialect {
	if p == erofs.ProfileIndex {
		return erofs.DialectSpec
	}
	return erofs.DialectLegacy
}

// TestRegistryOtherTar has a layer before the metadata that they are not of.
func TestRegistryOtherTar(t *testing.T) {
	p := newPlace(t)
	opts := convert.Options{Replace: true, Profile: erofs.ProfileIndex, Dialect: erofs.DialectSpec}
	p.push(t, image(t, built(t, lower), built(t, changes)), "two:1")
	p.convert(t, "two:1", "two:erofs", opts)
	p.alter(t, "two:erofs", func(layers []ocispec.Descriptor) { layers[0], layers[2] = layers[2], layers[0] })
	r, err := verify.Registry(t.Context(), p.open(t, "two:erofs"), p.open(t, "two:1"), t.TempDir(), verify.Options{})
	if err != nil || r.Err() == nil || !strings.Contains(r.Err().Error(), "devices") {
		t.Errorf("got %v, %v; want that the device is another one", r, err)
	}
	if _, err := verify.Image(t.Context(), p.open(t, "two:erofs"), p.open(t, "two:1"), verify.Options{}); err == nil || !strings.Contains(err.Error(), "no released containerd") {
		t.Errorf("to be unpacked: %v", err)
	}
}

// alter changes the layers of a manifest that its tag names.
func (p place) alter(t *testing.T, ref string, change func([]ocispec.Descriptor)) {
	t.Helper()
	dst, err := registry.Create(p.host+"/"+ref, registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	was, err := dst.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var m ocispec.Manifest
	if _, err := convert.FetchDocument(t.Context(), dst, was, &m); err != nil {
		t.Fatal(err)
	}
	change(m.Layers)
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	desc := convert.Describe(was.MediaType, raw)
	if err := errors.Join(dst.PutManifest(t.Context(), desc, raw), dst.Tag(t.Context(), desc, raw, was.Digest)); err != nil {
		t.Fatal(err)
	}
}

// TestRegistryAltered has variants that claim to be of an image and are of another one.
func TestRegistryAltered(t *testing.T) {
	p := newPlace(t)
	original := image(t, built(t, base(func(*tar.Header) {})))
	p.push(t, original, "it:1")
	for name, c := range map[string]struct {
		alter func(*tar.Header)
		want  []string
	}{
		"nothing": {func(*tar.Header) {}, nil},
		"mode":    {on("d/", func(h *tar.Header) { h.Mode = 0o700 }), []string{"d mode", "layer 1: d mode"}},
		"xattr":   {on("d/f", func(h *tar.Header) { h.PAXRecords["SCHILY.xattr.user.x"] = "2" }), []string{"d/f xattr user.x", "l xattr user.x", "layer 1: d/f xattr user.x"}},
		"time":    {on("d/", func(h *tar.Header) { h.ModTime = time.Unix(1e9, 0) }), []string{"d mtime", "layer 1: d mtime"}},
		"gone":    {on("s", func(h *tar.Header) { h.Name = "" }), []string{"layer 1: s file", "s file"}},
		"root":    {on("./", func(h *tar.Header) { h.Mode = 0o700 }), []string{". mode", "layer 1: . mode"}},
	} {
		t.Run(name, func(t *testing.T) {
			p.push(t, image(t, built(t, base(c.alter))), "other:1")
			p.convert(t, "other:1", "other:erofs", convert.Options{Replace: true})
			p.claim(t, "other:erofs", original, "it:claimed")
			r, err := verify.Registry(t.Context(), p.open(t, "it:claimed"), nil, t.TempDir(), verify.Options{})
			if err != nil {
				t.Fatal(err)
			}
			differs(t, r, c.want)
		})
	}
}

// TestRegistryLayers has one layer more, which hides what is to be there.
func TestRegistryLayers(t *testing.T) {
	p := newPlace(t)
	two := image(t, built(t, lower), built(t, changes))
	p.push(t, two, "two:1")
	p.push(t, image(t, built(t, lower)), "one:1")
	p.convert(t, "one:1", "one:erofs", convert.Options{Replace: true})
	p.claim(t, "one:erofs", two, "two:claimed")
	r, err := verify.Registry(t.Context(), p.open(t, "two:claimed"), nil, "", verify.Options{})
	if err != nil || r.Err() == nil || !strings.Contains(r.Err().Error(), "layers is 1, want 2") {
		t.Errorf("got %v, %v", r, err)
	}
	if raw, err := json.Marshal(r); err != nil || !strings.Contains(string(raw), `"attr":"layers"`) {
		t.Errorf("as JSON: %s, %v", raw, err)
	}
}
