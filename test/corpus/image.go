package corpus

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Linux is the platform of the images that run here.
var Linux = v1.Platform{OS: "linux", Architecture: "amd64"}

// Image puts layers on each other. Its config runs cmd.
func Image(platform v1.Platform, cmd []string, layers ...v1.Layer) (v1.Image, error) {
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.AppendLayers(image, layers...)
	if err != nil {
		return nil, err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.OSVersion = platform.OS, platform.Architecture, platform.OSVersion
	file.Config.Cmd = cmd
	file.Config.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	return mutate.ConfigFile(image, file)
}

// Docker gives an image Docker's schema 2 media types. Its layers were made with
// [types.DockerLayer].
func Docker(image v1.Image) v1.Image {
	return mutate.ConfigMediaType(mutate.MediaType(image, types.DockerManifestSchema2), types.DockerConfigJSON)
}

// Index lists images, each with the descriptor that it is listed by; a zero
// platform is filled from the config.
func Index(images ...mutate.IndexAddendum) v1.ImageIndex {
	return mutate.IndexMediaType(mutate.AppendManifests(empty.Index, images...), types.OCIImageIndex)
}

// Entry lists an image for a platform.
func Entry(image v1.Image, platform v1.Platform) mutate.IndexAddendum {
	return mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &platform}}
}

// Attestation is what BuildKit adds to an index beside an image: a manifest of
// in-toto statements for unknown/unknown, which names the image by an annotation.
func Attestation(of v1.Image) (mutate.IndexAddendum, error) {
	subject, err := of.Digest()
	if err != nil {
		return mutate.IndexAddendum{}, err
	}
	statement := static.NewLayer([]byte(`{"_type":"https://in-toto.io/Statement/v0.1","subject":[],"predicateType":"https://slsa.dev/provenance/v0.2"}`),
		"application/vnd.in-toto+json")
	image, err := Image(v1.Platform{OS: "unknown", Architecture: "unknown"}, nil, statement)
	if err != nil {
		return mutate.IndexAddendum{}, err
	}
	return mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{
		Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"},
		Annotations: map[string]string{
			"vnd.docker.reference.type":   "attestation-manifest",
			"vnd.docker.reference.digest": subject.String(),
		},
	}}, nil
}

// Windows is an image whose layer has the shape of a Windows one.
func Windows() (mutate.IndexAddendum, error) {
	layer, err := Built(types.OCILayer, func(w *tar.Writer) error {
		for _, name := range []string{"Files/", "Files/Windows/", "Hives/"} {
			if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
				return err
			}
		}
		return File(w, tar.Header{Name: "Files/Windows/hello.txt", Mode: 0o644}, "hello")
	})
	if err != nil {
		return mutate.IndexAddendum{}, err
	}
	platform := v1.Platform{OS: "windows", Architecture: "amd64", OSVersion: "10.0.20348.2402"}
	image, err := Image(platform, []string{"cmd"}, layer)
	return Entry(image, platform), err
}

// WriteLayout writes an image or index into a new OCI layout under a tag.
func WriteLayout(dir, tag string, what mutate.Appendable) error {
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	name := layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": tag})
	if index, ok := what.(v1.ImageIndex); ok {
		return p.AppendIndex(index, name)
	}
	return p.AppendImage(what.(v1.Image), name)
}

// Built is a gzip layer of what fill writes, held in memory.
func Built(mt types.MediaType, fill func(*tar.Writer) error) (v1.Layer, error) {
	var raw bytes.Buffer
	w := tar.NewWriter(&raw)
	if err := fill(w); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return Compressed(mt, raw.Bytes())
}

// Compressed is a gzip layer of a tar.
func Compressed(mt types.MediaType, raw []byte) (v1.Layer, error) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write(raw); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	diffID, _, err := v1.SHA256(bytes.NewReader(raw))
	return builtLayer{static.NewLayer(zipped.Bytes(), mt), raw, diffID}, err
}

// File writes a regular file.
func File(w *tar.Writer, h tar.Header, content string) error {
	h.Typeflag, h.Size = tar.TypeReg, int64(len(content))
	if err := w.WriteHeader(&h); err != nil {
		return err
	}
	_, err := io.WriteString(w, content)
	return err
}

type builtLayer struct {
	v1.Layer
	raw    []byte
	diffID v1.Hash
}

func (l builtLayer) DiffID() (v1.Hash, error) { return l.diffID, nil }
func (l builtLayer) Uncompressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.raw)), nil
}

// Registry is the layer in a format as go-containerregistry sees it.
func (l *Layer) Registry(f Format) v1.Layer { return keptLayer{l, f} }

type keptLayer struct {
	*Layer
	format Format
}

func (l keptLayer) Digest() (v1.Hash, error) { return v1.NewHash(l.Blobs[l.format].Digest.String()) }
func (l keptLayer) DiffID() (v1.Hash, error) { return v1.NewHash(l.Layer.DiffID().String()) }
func (l keptLayer) Size() (int64, error)     { return l.Blobs[l.format].Size, nil }
func (l keptLayer) Compressed() (io.ReadCloser, error) {
	return os.Open(l.Path(l.format))
}
func (l keptLayer) Uncompressed() (io.ReadCloser, error) { return os.Open(l.Path(Tar)) }
func (l keptLayer) MediaType() (types.MediaType, error) {
	switch l.format {
	case Gzip:
		return types.OCILayer, nil
	case Zstd:
		return types.OCILayerZStd, nil
	}
	return types.OCIUncompressedLayer, nil
}
