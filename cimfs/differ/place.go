package differ

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/cimfs"
	"github.com/lithify/lithify/cimfs/vhd"
)

// What mounts of the snapshotter blockcim have. containerd's core/mount names these on
// Windows only.
const (
	mountType    = "BlockCIM"
	optionFile   = "blockCIMType=file" // and no disk
	optionFooter = "append_vhd_footer"
)

// maxBlock bounds what a blob is decompressed to. The base layers of Windows in use have less
// than 10 GiB.
const maxBlock = 64 << 30

// place is where a block goes, and what is known of it.
type place struct {
	file     string
	rootHash string
	footer   bool // of a VHD, behind it
	sync     bool // to the disk
}

// placeOf reads a mount, whose source is the CIM in its block: DIR\layer.vhd\layer.cim.
func placeOf(desc ocispec.Descriptor, mounts []mount.Mount) (*place, error) {
	if len(mounts) != 1 || mounts[0].Type != mountType {
		return nil, fmt.Errorf("mounts %v: want one of the snapshotter blockcim: %w", mounts, errdefs.ErrInvalidArgument)
	}
	m := mounts[0]
	p := &place{
		file:     filepath.Dir(m.Source),
		rootHash: desc.Annotations[cimfs.AnnotationRootHash],
		footer:   slices.Contains(m.Options, optionFooter),
	}
	if filepath.Base(m.Source) != cimfs.LayerName || filepath.Base(p.file) != cimfs.LayerFile || !slices.Contains(m.Options, optionFile) {
		return nil, fmt.Errorf("mount %v: want a layer of the snapshotter blockcim, and no container: %w", m, errdefs.ErrInvalidArgument)
	}
	if name := desc.Annotations[cimfs.AnnotationName]; name != cimfs.LayerName {
		return nil, fmt.Errorf("annotation %s is %q: containerd looks for %q: %w", cimfs.AnnotationName, name, cimfs.LayerName, errdefs.ErrInvalidArgument)
	}
	if err := digest.NewDigestFromEncoded(digest.SHA256, p.rootHash).Validate(); err != nil {
		return nil, fmt.Errorf("annotation %s: %w: %w", cimfs.AnnotationRootHash, err, errdefs.ErrInvalidArgument)
	}
	return p, nil
}

// put writes the block, checks it, and has it appear as a whole.
func (p *place) put(ctx context.Context, block io.Reader) (desc ocispec.Descriptor, err error) {
	f, err := os.CreateTemp(filepath.Dir(p.file), cimfs.LayerFile+".*")
	if err != nil {
		return desc, err
	}
	defer func() {
		if err != nil {
			desc, err = ocispec.Descriptor{}, errors.Join(err, os.Remove(f.Name()))
		}
	}()
	desc, err = write(f, block)
	if err := errors.Join(err, f.Close()); err != nil {
		return desc, err
	}
	if err := p.check(ctx, f.Name()); err != nil {
		return desc, err
	}
	if err := p.finish(f.Name(), desc.Digest); err != nil {
		return desc, err
	}
	return desc, os.Rename(f.Name(), p.file)
}

// write describes what it writes as containerd's differs do: as the layer, uncompressed.
func write(f *os.File, block io.Reader) (desc ocispec.Descriptor, err error) {
	digester := digest.Canonical.Digester()
	n, err := io.Copy(io.MultiWriter(f, digester.Hash()), io.LimitReader(block, maxBlock+1))
	if err != nil {
		return desc, err
	}
	if n > maxBlock {
		return desc, fmt.Errorf("it has more than %d bytes: %w", int64(maxBlock), errdefs.ErrInvalidArgument)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return desc, err
	}
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digester.Digest(), Size: n}, cimfs.CheckReal(f)
}

// check refuses a block that is sealed with another root hash, where this system can tell.
func (p *place) check(ctx context.Context, file string) error {
	hash, err := cimfs.RootHash(ctx, file)
	if errdefs.IsNotImplemented(err) {
		return nil
	}
	if err == nil && hash != p.rootHash {
		err = fmt.Errorf("it is sealed with root hash %s, and annotated with %s: %w", hash, p.rootHash, errdefs.ErrInvalidArgument)
	}
	return err
}

// finish makes a disk of the block, if the snapshotter's blocks are such.
func (p *place) finish(file string, content digest.Digest) (err error) {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if p.footer {
		if _, err := vhd.Append(f, content); err != nil {
			return err
		}
	}
	if p.sync {
		return f.Sync()
	}
	return nil
}
