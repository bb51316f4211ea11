// Command dockerpull pulls an image with Docker engine's own pull code
// (github.com/docker/docker/distribution) into an image store of its own, and
// prints the manifest digest it chose and the layers it registered. It stands in
// for an engine, which would need a daemon of its own:
//
//	dockerpull ROOT REF [os/arch]
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/events"
	registrytypes "github.com/docker/docker/api/types/registry"
	_ "github.com/docker/docker/daemon/graphdriver/vfs"
	"github.com/docker/docker/distribution"
	"github.com/docker/docker/distribution/metadata"
	"github.com/docker/docker/distribution/xfer"
	"github.com/docker/docker/image"
	"github.com/docker/docker/layer"
	"github.com/docker/docker/pkg/progress"
	refstore "github.com/docker/docker/reference"
	"github.com/docker/docker/registry"
	"github.com/moby/sys/reexec"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func main() {
	if reexec.Init() {
		return
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "dockerpull:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: dockerpull ROOT REF [os/arch]")
	}
	ref, err := reference.ParseNormalizedNamed(args[1])
	if err != nil {
		return err
	}
	var platform *ocispec.Platform
	if len(args) > 2 {
		p, err := platforms.Parse(args[2])
		if err != nil {
			return err
		}
		platform = &p
	}
	s, err := open(args[0], reference.Domain(ref))
	if err != nil {
		return err
	}
	s.config.Platform = platform
	if err := distribution.Pull(context.Background(), ref, &s.config, s.content); err != nil {
		return err
	}
	return s.print(ref)
}

type stores struct {
	config  distribution.ImagePullConfig
	content distribution.ContentStore
	images  image.Store
	refs    refstore.Store
}

// print writes what the engine would know about the image now.
func (s *stores) print(ref reference.Named) error {
	id, err := s.refs.Get(ref)
	if err != nil {
		return err
	}
	img, err := s.images.Get(image.ID(id))
	if err != nil {
		return err
	}
	var manifest digest.Digest
	for _, a := range s.refs.References(id) {
		if d, ok := a.(reference.Digested); ok {
			manifest = d.Digest()
		}
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"config": id, "digest": manifest, "os": img.OS, "os.features": img.OSFeatures,
		"architecture": img.Architecture, "diff_ids": img.RootFS.DiffIDs,
	})
}

// open makes the stores an engine keeps, with the vfs driver, which needs no
// mounts.
func open(root, insecure string) (*stores, error) {
	layers, err := layer.NewStoreFromOptions(layer.StoreOptions{Root: root, GraphDriver: "vfs"})
	if err != nil {
		return nil, err
	}
	backend, err := image.NewFSStoreBackend(filepath.Join(root, "imagedb"))
	if err != nil {
		return nil, err
	}
	images, err := image.NewImageStore(backend, layers)
	if err != nil {
		return nil, err
	}
	refs, err := refstore.NewReferenceStore(filepath.Join(root, "repositories.json"))
	if err != nil {
		return nil, err
	}
	meta, err := metadata.NewFSMetadataStore(filepath.Join(root, "metadata"))
	if err != nil {
		return nil, err
	}
	service, err := registry.NewService(registry.ServiceOptions{InsecureRegistries: []string{insecure}})
	if err != nil {
		return nil, err
	}
	content, err := local.NewStore(filepath.Join(root, "content"))
	if err != nil {
		return nil, err
	}
	return &stores{
		config: distribution.ImagePullConfig{
			Config: distribution.Config{
				AuthConfig:       &registrytypes.AuthConfig{},
				ProgressOutput:   progress.DiscardOutput(),
				RegistryService:  service,
				ImageEventLogger: func(context.Context, string, string, events.Action) {},
				MetadataStore:    meta,
				ImageStore:       distribution.NewImageConfigStoreFromStore(images),
				ReferenceStore:   refs,
			},
			DownloadManager: xfer.NewLayerDownloadManager(layers, 2),
		},
		content: content, images: images, refs: refs,
	}, nil
}
