// Command puller unpacks an image of block CIMs as containerd does when it pulls one, by its
// unpacker, snapshotter and metadata, and by the differ of cimfs/differ in this process: named
// pipes hang under Wine. Then it prepares a container.
//
//	puller [-layer-types=false] [-diff-id DIGEST] [-merged N [-take-merged]] FOLDER BLOCK ROOTHASH...
//
// Blocks are files with their root hashes, the base first. With -merged what follows the first N
// joins them, and the differ takes that only if told to. It prints the container's mounts as JSON.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/unpack"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	windowssnapshots "github.com/containerd/containerd/v2/plugins/snapshots/windows"
	"github.com/containerd/platforms"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"

	"github.com/lithify/lithify/cimfs"
	"github.com/lithify/lithify/cimfs/differ"
)

// platform is that of an unpack_config, of which the image's has to be one.
const platform = "windows(10.0.27800+blockcim)/amd64"

func main() {
	log.SetFlags(0)
	types := flag.Bool("layer-types", true, "have the unpacker know our media types")
	wrong := flag.String("diff-id", "", "digest that the config has for the topmost layer")
	merged := flag.Int("merged", 0, "how many blocks are layers, if the last one is none")
	take := flag.Bool("take-merged", false, "have the differ take what joins the layers")
	flag.Parse()
	if err := pull(flag.Arg(0), flag.Args()[1:], *types, digest.Digest(*wrong), *merged, *take); err != nil {
		log.Fatal(err)
	}
}

func pull(dir string, blocks []string, types bool, wrong digest.Digest, merged int, take bool) error {
	ctx := namespaces.WithNamespace(context.Background(), "default")
	db, err := open(dir)
	if err != nil {
		return err
	}
	image := ocispec.Image{Platform: ocispec.Platform{OS: "windows", Architecture: "amd64", OSVersion: "10.0.26100.1", OSFeatures: []string{cimfs.OSFeature}}}
	image.RootFS.Type = "layers"
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for i := 0; i < len(blocks); i += 2 {
		layer, diffID, err := ingest(ctx, db.ContentStore(), blocks[i], blocks[i+1])
		if err != nil {
			return err
		}
		if merged > 0 && i == 2*merged {
			layer.MediaType = cimfs.MediaTypeMergedZstd
			top := manifest.Layers[merged-1].Annotations
			top[cimfs.AnnotationMerged], top[cimfs.AnnotationMergedRootHash] = layer.Digest.String(), blocks[i+1]
			manifest.Layers = append(manifest.Layers, layer)
			break
		}
		manifest.Layers, image.RootFS.DiffIDs = append(manifest.Layers, layer), append(image.RootFS.DiffIDs, diffID)
	}
	chain := identity.ChainID(image.RootFS.DiffIDs).String()
	if wrong != "" {
		image.RootFS.DiffIDs[len(image.RootFS.DiffIDs)-1] = wrong
	}
	if manifest.Config, err = ingestJSON(ctx, db.ContentStore(), ocispec.MediaTypeImageConfig, image); err != nil {
		return err
	}
	desc, err := ingestJSON(ctx, db.ContentStore(), manifest.MediaType, manifest)
	if err != nil {
		return err
	}
	if err := unpackImage(ctx, db, desc, types, take); err != nil {
		_, gcErr := db.GarbageCollect(ctx) // which removes snapshots' directories
		return errors.Join(err, gcErr)
	}
	mounts, err := db.Snapshotter("blockcim").Prepare(ctx, "container", chain)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(mounts)
}

func open(dir string) (*metadata.DB, error) {
	root := filepath.Join(dir, "snapshots")
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	sn, err := windowssnapshots.NewBlockCIMSnapshotter(root, &windowssnapshots.BlockCIMSnapshotterConfig{
		EnableLayerIntegrity: true,
		UnformattedScratch:   true,
	})
	if err != nil {
		return nil, err
	}
	store, err := local.NewStore(filepath.Join(dir, "content"))
	if err != nil {
		return nil, err
	}
	db, err := bolt.Open(filepath.Join(dir, "meta.db"), 0o600, nil)
	if err != nil {
		return nil, err
	}
	return metadata.NewDB(db, store, map[string]snapshots.Snapshotter{"blockcim": sn}), nil
}

func unpackImage(ctx context.Context, db *metadata.DB, image ocispec.Descriptor, types, merged bool) error {
	p := unpack.Platform{
		Platform:       platforms.Only(platforms.MustParse(platform)),
		SnapshotterKey: "blockcim",
		Snapshotter:    db.Snapshotter("blockcim"),
		Applier:        &differ.Applier{Content: db.ContentStore(), Merged: merged, Log: slog.New(slog.DiscardHandler)},
	}
	if types {
		p.LayerTypes = []string{cimfs.MediaTypeLayer, cimfs.MediaTypeLayerZstd}
	}
	u, err := unpack.NewUnpacker(ctx, db.ContentStore(), unpack.WithUnpackPlatform(p))
	if err != nil {
		return err
	}
	if err := images.Dispatch(ctx, u.Unpack(images.ChildrenHandler(db.ContentStore())), nil, image); err != nil {
		return err
	}
	r, err := u.Wait()
	if err == nil && r.Unpacks == 0 {
		err = errors.New("containerd has unpacked nothing")
	}
	return err
}

// ingest has a block in the store as registries have it.
func ingest(ctx context.Context, cs content.Store, file, rootHash string) (layer ocispec.Descriptor, diffID digest.Digest, err error) {
	block, err := os.ReadFile(file)
	if err != nil {
		return layer, "", err
	}
	z, err := zstd.NewWriter(io.Discard)
	if err != nil {
		return layer, "", err
	}
	layer, err = write(ctx, cs, cimfs.MediaTypeLayerZstd, z.EncodeAll(block, nil))
	layer.Annotations = map[string]string{cimfs.AnnotationName: cimfs.LayerName, cimfs.AnnotationRootHash: rootHash}
	return layer, digest.FromBytes(block), err
}

func ingestJSON(ctx context.Context, cs content.Store, mediaType string, v any) (ocispec.Descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return write(ctx, cs, mediaType, b)
}

func write(ctx context.Context, cs content.Store, mediaType string, b []byte) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	return desc, content.WriteBlob(ctx, cs, desc.Digest.String(), bytes.NewReader(b), desc)
}
