package commit

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containerd/containerd/v2/core/images"

	"github.com/lithify/lithify/convert/pack"
)

// add makes the config and manifest of base with the layer on top, in the base's family
// of media types: the layers' keys in a ledger hold theirs.
func (s *source) add(b *base, o Options) error {
	created := o.Epoch
	if created.IsZero() {
		created = time.Now()
	}
	config, err := editConfig(b, s.layer, o, created.UTC())
	if err != nil {
		return err
	}
	manifestType, layer := ocispec.MediaTypeImageManifest, s.layer.Descriptor
	if b.desc.MediaType == images.MediaTypeDockerSchema2Manifest {
		manifestType, layer.MediaType = b.desc.MediaType, dockerType[layer.MediaType]
	}
	manifest, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: manifestType,
		Config:    s.keep(b.manifest.Config.MediaType, config),
		Layers:    append(slices.Clone(b.manifest.Layers), layer),
	})
	if err != nil {
		return err
	}
	s.root = s.keep(manifestType, manifest)
	return nil
}

// dockerType is what Docker calls the OCI types of layers.
var dockerType = map[string]string{
	ocispec.MediaTypeImageLayer:     images.MediaTypeDockerSchema2Layer,
	ocispec.MediaTypeImageLayerGzip: images.MediaTypeDockerSchema2LayerGzip,
	ocispec.MediaTypeImageLayerZstd: images.MediaTypeDockerSchema2LayerZstd,
}

// keep holds a document that the source is to have.
func (s *source) keep(mediaType string, raw []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	s.made[d.Digest] = raw
	return d
}

// editConfig keeps every field of the base's config that it does not change, those of
// Docker's that the OCI spec does not know too.
func editConfig(b *base, l *pack.Layer, o Options, created time.Time) ([]byte, error) {
	whole, run := fields{}, fields{}
	if err := json.Unmarshal(b.raw, &whole); err != nil {
		return nil, err
	}
	if raw, ok := whole["config"]; ok {
		if err := json.Unmarshal(raw, &run); err != nil {
			return nil, err
		}
	}
	config := b.config.Config
	if err := apply(&config, o.Changes); err != nil {
		return nil, err
	}
	if err := run.merge(config, runFields); err != nil {
		return nil, err
	}
	author := o.Author
	if author == "" {
		author = b.config.Author
	}
	history := append(slices.Clone(b.config.History), ocispec.History{
		Created: &created, CreatedBy: "lithify commit", Author: o.Author, Comment: o.Message,
	})
	edited := struct {
		Created *time.Time        `json:"created"`
		Author  string            `json:"author,omitempty"`
		Config  fields            `json:"config"`
		RootFS  ocispec.RootFS    `json:"rootfs"`
		History []ocispec.History `json:"history"`
	}{&created, author, run, ocispec.RootFS{Type: "layers", DiffIDs: append(slices.Clone(b.config.RootFS.DiffIDs), l.DiffID)}, history}
	// The container ran with these; the image that is made of it has not.
	delete(whole, "container")
	delete(whole, "container_config")
	if err := whole.merge(edited, []string{"created", "author", "config", "rootfs", "history"}); err != nil {
		return nil, err
	}
	return json.Marshal(whole)
}

// fields are a JSON object of which not all is known.
type fields map[string]json.RawMessage

// runFields are those of ocispec.ImageConfig.
var runFields = []string{"User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal", "ArgsEscaped"}

// merge sets the named fields to those of v, and removes those that v leaves out.
func (f fields) merge(v any, names []string) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var set fields
	if err := json.Unmarshal(raw, &set); err != nil {
		return err
	}
	for _, name := range names {
		if value, ok := set[name]; ok {
			f[name] = value
		} else {
			delete(f, name)
		}
	}
	return nil
}
