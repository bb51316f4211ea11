package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// dockerImage is an entry of docker save's manifest.json.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// openDockerArchive reads what docker save wrote. Since Docker 25 that holds an
// OCI layout too, whose manifests are then the source. Before there was no
// manifest at all: one is made of the config and the layers as they lie in the
// archive, nearly always uncompressed. An uncompressed layer's digest is the
// config's diff_id, so that nothing is read twice, and a layer that is not what
// the config says is found by whoever checks what Fetch gives. A compressed one
// is read once to compute its digest.
func openDockerArchive(p place) (*archive, error) {
	a, err := dockerArchive(p)
	if err != nil {
		return nil, fmt.Errorf("open docker-archive:%s: %w", p.path, err)
	}
	return a, nil
}

func dockerArchive(p place) (*archive, error) {
	file, e, err := openArchive(p)
	if err != nil {
		return nil, err
	}
	if _, ok := e[layoutFile]; ok {
		return layoutArchive(file, e, p)
	}
	raw, err := e.document(file, "manifest.json")
	if err != nil {
		return nil, err
	}
	image, err := parseDockerManifest(raw, p.tag)
	if err != nil {
		return nil, err
	}
	a := &archive{
		name:  placeName(p.scheme, file, p.tag, ""),
		file:  file,
		blobs: map[digest.Digest]section{},
		made:  map[digest.Digest][]byte{},
	}
	return a, a.assemble(e, image)
}

// parseDockerManifest finds an image by one of its names, or the only one.
func parseDockerManifest(raw []byte, ref string) (dockerImage, error) {
	var images []dockerImage
	if err := json.Unmarshal(raw, &images); err != nil {
		return dockerImage{}, invalid("parse manifest.json: %v", err)
	}
	if ref == "" && len(images) == 1 {
		return images[0], nil
	}
	var names []string
	for _, image := range images {
		for _, tag := range image.RepoTags {
			if ref != "" && sameImage(tag, ref) {
				return image, nil
			}
			names = append(names, fmt.Sprintf("%.80q", tag))
		}
	}
	if ref == "" {
		return dockerImage{}, invalid("holds %d images, name one of %s", len(images), list(names))
	}
	return dockerImage{}, absent("holds no image %q, only %s", ref, list(names))
}

// sameImage compares two names as docker does: alpine is docker.io's
// library/alpine:latest.
func sameImage(a, b string) bool {
	if a == b {
		return true
	}
	x, err := name.ParseReference(a)
	if err != nil {
		return false
	}
	y, err := name.ParseReference(b)
	return err == nil && x.Name() == y.Name()
}

// assemble makes the manifest that the archive lacks.
func (a *archive) assemble(e entries, image dockerImage) error {
	config, err := e.document(a.file, image.Config)
	if err != nil {
		return err
	}
	diffIDs, err := parseDiffIDs(config, len(image.Layers))
	if err != nil {
		return err
	}
	m := ocispec.Manifest{MediaType: dockerManifest, Config: a.keep(dockerConfig, config)}
	m.SchemaVersion = 2
	for i, layer := range image.Layers {
		s, err := e.find(layer)
		if err != nil {
			return err
		}
		desc, err := a.layer(s, diffIDs[i])
		if err != nil {
			return fmt.Errorf("layer %.80q: %w", path.Clean(layer), err)
		}
		a.blobs[desc.Digest] = s
		m.Layers = append(m.Layers, desc)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	a.desc = a.keep(dockerManifest, raw)
	return nil
}

func (a *archive) keep(mediaType string, raw []byte) ocispec.Descriptor {
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	a.made[desc.Digest] = raw
	return desc
}

func parseDiffIDs(config []byte, layers int) ([]digest.Digest, error) {
	var image ocispec.Image
	if err := json.Unmarshal(config, &image); err != nil {
		return nil, invalid("parse config: %v", err)
	}
	ids := image.RootFS.DiffIDs
	if len(ids) != layers {
		return nil, invalid("manifest.json names %d layers, the config %d", layers, len(ids))
	}
	for _, d := range ids {
		if err := checkDigest(d); err != nil {
			return nil, fmt.Errorf("config: %w", err)
		}
	}
	return ids, nil
}

func (a *archive) layer(s section, diffID digest.Digest) (ocispec.Descriptor, error) {
	rc, err := openSection(a.file, s, 0, s.size)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer rc.Close()
	head := make([]byte, 6)
	n, err := io.ReadFull(rc, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{Size: s.size}
	switch c := compression(head[:n]); c {
	case "":
		desc.MediaType, desc.Digest = dockerLayer, diffID
		return desc, nil
	case "gzip":
		desc.MediaType = dockerLayerGzip
	case "zstd":
		desc.MediaType = dockerLayerZstd
	default:
		return desc, invalid("is compressed with %s", c)
	}
	sum := digest.Canonical.Digester()
	if _, err := io.Copy(sum.Hash(), io.MultiReader(bytes.NewReader(head[:n]), rc)); err != nil {
		return desc, err
	}
	desc.Digest = sum.Digest()
	return desc, nil
}
