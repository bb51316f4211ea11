package inspect

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/lithify/lithify/cimfs"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Report says what an image is made of.
type Report struct {
	Name       string             `json:"name"`
	Descriptor ocispec.Descriptor `json:"descriptor"` // what the name names
	Manifests  []Manifest         `json:"manifests"`
}

// Manifest is one of an image.
type Manifest struct {
	ocispec.Descriptor
	// Kind is tar, erofs, blockcim, or other: attestations, artifacts.
	Kind     string        `json:"kind"`
	On       string        `json:"on,omitempty"`      // its platform
	Profile  erofs.Profile `json:"profile,omitempty"` // of a variant that lithify made, as is Writer
	Dialect  erofs.Dialect `json:"dialect,omitempty"` // of EROFS
	Writer   string        `json:"writer,omitempty"`
	Source   digest.Digest `json:"source,omitempty"` // what a variant was made from
	Config   digest.Digest `json:"config"`
	Layers   []Layer       `json:"layers"`
	Inner    bool          `json:"inner,omitempty"` // in an index within the index
	Referrer []Referrer    `json:"referrers,omitempty"`
}

// Layer is one of a manifest.
type Layer struct {
	ocispec.Descriptor
	DiffID digest.Digest `json:"diffId,omitempty"` // by the config
	Role   string        `json:"role,omitempty"`   // of the erofs-image-spec draft
	Verity *Verity       `json:"verity,omitempty"`
	Chunks *Chunks       `json:"chunks,omitempty"`
	// FileSystem is of a layer of EROFS, by its superblock; Problem says why there is none.
	FileSystem *FileSystem `json:"fileSystem,omitempty"`
	CIM        *CIM        `json:"cim,omitempty"`
	Problem    string      `json:"problem,omitempty"`
}

// FileSystem is what a superblock says. It is believed, not checked.
type FileSystem struct {
	UUID      string `json:"uuid"`
	BlockSize int64  `json:"blockSize"`
	Blocks    int64  `json:"blocks"`
	Inodes    uint64 `json:"inodes"`
	Metadata  int64  `json:"metadata"` // where it begins, in bytes
	Devices   int    `json:"devices,omitempty"`
	// DeviceTags are digests of the blobs that these are in, in hexadecimal.
	DeviceTags []string `json:"deviceTags,omitempty"`
	Features   []string `json:"features,omitempty"`
}

// CIM is a block CIM, by its annotations and its first bytes.
type CIM struct {
	Name     string        `json:"name"`
	RootHash string        `json:"rootHash"`
	Writer   string        `json:"writer"`
	TarID    digest.Digest `json:"tarDiffId,omitempty"` // of the tar that it was made of
	Hives    digest.Digest `json:"hives,omitempty"`
	// Merged is what joins the layers up to this one, if the manifest brings that.
	Merged         digest.Digest `json:"merged,omitempty"`
	MergedRootHash string        `json:"mergedRootHash,omitempty"`
	// Emulated says that these are bytes of lithify's tests, which nothing mounts.
	Emulated bool `json:"emulated"`
}

// Referrer is what somebody has attached to a manifest. Nobody's signature is looked at.
type Referrer struct {
	Digest       digest.Digest     `json:"digest"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// Image reads the documents of src and a few bytes of each layer that is no tar.
func Image(ctx context.Context, src convert.Source) (*Report, error) {
	root, _, list, err := convert.Manifests(ctx, src)
	if err != nil {
		return nil, err
	}
	r := &Report{Name: src.Name(), Descriptor: root}
	seen := map[string]Layer{}
	for _, m := range list {
		one := describe(m)
		for i, d := range m.Layers {
			is := fmt.Sprintf("%q %q %q", d.Digest, d.MediaType, d.Annotations) // what it is read as, and what is said of it
			l, ok := seen[is]
			if !ok {
				l = lookAt(ctx, src, d)
				seen[is] = l
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			l.Descriptor, l.Role = d, d.Annotations[erofs.AnnotationRole]
			if i < len(m.DiffIDs) {
				l.DiffID = m.DiffIDs[i]
			}
			if l.CIM != nil && !brings(m.Layers[i+1:], l.CIM.Merged) {
				l.Problem = cmp.Or(l.Problem, "no layer behind it is the merged CIM that it names")
			}
			one.Layers = append(one.Layers, l)
		}
		if one.Referrer, err = referrers(ctx, src, m.Descriptor.Digest); err != nil {
			return nil, err
		}
		r.Manifests = append(r.Manifests, one)
	}
	return r, nil
}

func describe(m convert.Manifest) Manifest {
	one := Manifest{
		Descriptor: m.Descriptor, Kind: kindOf(m), Config: m.Config.Digest, Inner: m.Inner, Source: m.Source,
		Profile: m.Profile(), Writer: m.Annotations[convert.AnnotationWriter],
	}
	if m.Platform != nil {
		one.On = platforms.FormatAll(*m.Platform)
	}
	if one.Kind == "erofs" {
		one.Dialect = dialectOf(m.Layers)
	}
	return one
}

func kindOf(m convert.Manifest) string {
	switch {
	case m.Platform == nil:
		return "other"
	case m.Profile() == convert.ProfileBlockCIM || slices.ContainsFunc(m.Layers, isCIM):
		return "blockcim"
	case m.IsEROFS():
		return "erofs"
	}
	return "tar"
}

func isCIM(d ocispec.Descriptor) bool {
	return d.MediaType == cimfs.MediaTypeLayer || d.MediaType == cimfs.MediaTypeLayerZstd || isMerged(d)
}

func isMerged(d ocispec.Descriptor) bool {
	return d.MediaType == cimfs.MediaTypeMerged || d.MediaType == cimfs.MediaTypeMergedZstd
}

// dialectOf is the one that all layers of EROFS agree in; empty where they do not.
func dialectOf(layers []ocispec.Descriptor) (dialect erofs.Dialect) {
	for _, d := range layers {
		var one erofs.Dialect
		switch d.MediaType {
		case erofs.MediaTypeImage, erofs.MediaTypeImageZstd:
			one = erofs.DialectSpec
		case erofs.MediaTypeLegacy, erofs.MediaTypeLegacyZstd:
			one = erofs.DialectLegacy
		default:
			continue
		}
		if dialect = cmp.Or(dialect, one); dialect != one {
			return ""
		}
	}
	return dialect
}

// lookAt looks into a layer. What stands against that is the layer's Problem.
func lookAt(ctx context.Context, src convert.Source, d ocispec.Descriptor) (l Layer) {
	var err error
	switch {
	case isCIM(d):
		l.CIM, err = lookAtCIM(ctx, src, d)
	case erofs.IsLayerMediaType(d.MediaType):
		l.FileSystem, err = lookAtEROFS(ctx, src, d)
		var more error
		l.Verity, more = verityOf(d)
		err = errors.Join(err, more)
		l.Chunks, more = chunksOf(ctx, src, d)
		err = errors.Join(err, more)
	case images.IsNonDistributable(d.MediaType):
		l.Problem = "may not be distributed"
	}
	if err != nil {
		l.Problem = err.Error()
	}
	return l
}

func lookAtEROFS(ctx context.Context, src convert.Source, d ocispec.Descriptor) (*FileSystem, error) {
	b, err := readHead(ctx, src, d)
	if err != nil {
		return nil, err
	}
	s, err := parseSuper(b)
	if err != nil {
		return nil, err
	}
	fs := s.fileSystem()
	if fs.Devices > 0 {
		fs.DeviceTags, err = erofs.DeviceTags(bytes.NewReader(b))
	}
	return fs, err
}

func lookAtCIM(ctx context.Context, src convert.Source, d ocispec.Descriptor) (*CIM, error) {
	c := &CIM{
		Name:     d.Annotations[cimfs.AnnotationName],
		RootHash: d.Annotations[cimfs.AnnotationRootHash],
		Writer:   d.Annotations[cimfs.AnnotationWriter],
		TarID:    digest.Digest(d.Annotations[cimfs.AnnotationSource]),
		Hives:    digest.Digest(d.Annotations[cimfs.AnnotationHives]),

		Merged:         digest.Digest(d.Annotations[cimfs.AnnotationMerged]),
		MergedRootHash: d.Annotations[cimfs.AnnotationMergedRootHash],
	}
	b, err := readHead(ctx, src, d)
	if err == nil {
		c.Emulated, err = cimfs.Emulated(bytes.NewReader(b))
	}
	return c, errors.Join(err, c.check(d))
}

// check finds what no consumer of the layer takes. That a root hash is the block's, it cannot tell.
func (c *CIM) check(d ocispec.Descriptor) error {
	name := cimfs.LayerName
	if isMerged(d) {
		name = cimfs.MergedName
	}
	var errs []error
	if c.Name != name {
		errs = append(errs, fmt.Errorf("annotation %s is %q, and consumers look for %q", cimfs.AnnotationName, c.Name, name))
	}
	hashes := map[string]string{cimfs.AnnotationRootHash: c.RootHash}
	if c.Merged != "" || c.MergedRootHash != "" {
		hashes[cimfs.AnnotationMergedRootHash] = c.MergedRootHash
	}
	for _, key := range slices.Sorted(maps.Keys(hashes)) {
		if err := digest.NewDigestFromEncoded(digest.SHA256, hashes[key]).Validate(); err != nil {
			errs = append(errs, fmt.Errorf("annotation %s: %q is no root hash", key, hashes[key]))
		}
	}
	return errors.Join(errs...)
}

// brings reports whether what joins layers is among those that follow.
func brings(layers []ocispec.Descriptor, merged digest.Digest) bool {
	return merged == "" || slices.ContainsFunc(layers, func(d ocispec.Descriptor) bool { return d.Digest == merged && isMerged(d) })
}

// referrers are those that the registry tells; none where it does not know.
func referrers(ctx context.Context, src convert.Source, d digest.Digest) (list []Referrer, err error) {
	found, err := src.Referrers(ctx, d)
	if errdefs.IsNotImplemented(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list what is attached to %s: %w", d, err)
	}
	for _, r := range found {
		list = append(list, Referrer{Digest: r.Digest, ArtifactType: r.ArtifactType, Annotations: r.Annotations})
	}
	return list, nil
}
