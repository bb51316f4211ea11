// Command unpacker has containerd's blockcim snapshotter and differ unpack layers, the base
// first, as a pull does, and prepare a container of them:
//
//	unpacker FOLDER LAYER.tar...
//
// It prints the container's mounts as JSON.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	windowsdiff "github.com/containerd/containerd/v2/plugins/diff/windows"
	windowssnapshots "github.com/containerd/containerd/v2/plugins/snapshots/windows"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func main() {
	log.SetFlags(0)
	if err := unpack(namespaces.WithNamespace(context.Background(), "default"), os.Args[1], os.Args[2:]); err != nil {
		log.Fatal(err)
	}
}

func unpack(ctx context.Context, dir string, tars []string) error {
	root := filepath.Join(dir, "snapshots")
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	sn, err := windowssnapshots.NewBlockCIMSnapshotter(root, &windowssnapshots.BlockCIMSnapshotterConfig{
		EnableLayerIntegrity: true,
		UnformattedScratch:   true,
	})
	if err != nil {
		return err
	}
	store, err := local.NewStore(filepath.Join(dir, "content"))
	if err != nil {
		return err
	}
	differ, err := windowsdiff.NewBlockCimDiff(store)
	if err != nil {
		return err
	}
	var chain []digest.Digest
	for _, tar := range tars {
		desc, err := ingest(ctx, store, tar)
		if err != nil {
			return err
		}
		if err := apply(ctx, sn, differ, desc, chain); err != nil {
			return fmt.Errorf("%s: %w", tar, err)
		}
		chain = append(chain, desc.Digest)
	}
	mounts, err := sn.Prepare(ctx, "container", identity.ChainID(chain).String())
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(mounts)
}

func ingest(ctx context.Context, store content.Store, tar string) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer}
	f, err := os.Open(tar)
	if err != nil {
		return desc, err
	}
	defer f.Close()
	if desc.Digest, err = digest.FromReader(f); err != nil {
		return desc, err
	}
	if desc.Size, err = f.Seek(0, io.SeekCurrent); err != nil {
		return desc, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return desc, err
	}
	return desc, content.WriteBlob(ctx, store, tar, f, desc)
}

// apply unpacks a layer onto those of chain.
func apply(ctx context.Context, sn snapshots.Snapshotter, differ diff.Applier, layer ocispec.Descriptor, chain []digest.Digest) error {
	name := identity.ChainID(append(chain, layer.Digest)).String()
	key := snapshots.UnpackKeyPrefix + "-" + name
	mounts, err := sn.Prepare(ctx, key, identity.ChainID(chain).String())
	if err != nil {
		return err
	}
	if _, err := differ.Apply(ctx, layer, mounts); err != nil {
		return err
	}
	return sn.Commit(ctx, name, key)
}
