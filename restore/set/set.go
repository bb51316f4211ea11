// Package set publishes checkpoints that were taken together, of a service's containers,
// under one name, and reads them back.
//
// A set is an OCI image index with [ArtifactType] as its artifact type. Each of its manifests
// is a checkpoint image (package image) like any other; its descriptor has the name of its
// container as [AnnotationContainer], and no two have the same. The index itself has
//
//	org.opencontainers.image.created            when they were taken
//	io.github.lithify.checkpoint.generation     1, and one more each time the tag is moved to a newer set
//	io.github.lithify.checkpoint.previous       digest of the set that the tag named before
//	io.github.lithify.checkpoint.earlier        digests of up to 100 sets before that, the latest first
//
// The tag moves; an older set stays what it is and is found by its digest, which newer
// ones name: also where one between them was deleted. A registry that removes what has no tag
// may remove it.
//
// What is signed is each checkpoint image, and not that they belong together: whoever may
// write to the repository can put another set together of the same images.
package set

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
)

const (
	// ArtifactType is that of a set.
	ArtifactType = "application/vnd.lithify.checkpoint.set.v1"
	// AnnotationContainer is the container's name, at a manifest's descriptor.
	AnnotationContainer = "io.github.lithify.checkpoint.container"
	// AnnotationGeneration counts the sets that a tag has named.
	AnnotationGeneration = "io.github.lithify.checkpoint.generation"
	// AnnotationPrevious is the digest of the set before.
	AnnotationPrevious = "io.github.lithify.checkpoint.previous"
	// AnnotationEarlier is the digests of the sets before that, separated by commas.
	AnnotationEarlier = "io.github.lithify.checkpoint.earlier"
)

// MaxContainers is far above what one service has on one machine.
const MaxContainers = 64

// maxEarlier makes 7 KiB of a set's manifest.
const maxEarlier = 100

// Set is one that was found, or published.
type Set struct {
	Name       string             `json:"name"` // the full reference
	Descriptor ocispec.Descriptor `json:"descriptor"`
	Generation int                `json:"generation"`
	Previous   digest.Digest      `json:"previous,omitempty"`
	Earlier    []digest.Digest    `json:"-"` // those before Previous, the latest first
	Created    time.Time          `json:"created"`
	Containers []Container        `json:"containers"`
}

// Ancestors are the sets that the tag has named before, as far as s knows of them, the latest
// first. Some may be gone.
func (s *Set) Ancestors() []digest.Digest {
	if s.Previous == "" {
		return nil
	}
	return append([]digest.Digest{s.Previous}, s.Earlier...)
}

// Container is a checkpoint of a set.
type Container struct {
	Name  string             `json:"name"`
	Image ocispec.Descriptor `json:"image"`
}

// Open reads the set that src names. What is none is a [convert.RefusedError].
func Open(ctx context.Context, src convert.Source) (*Set, error) {
	desc, err := src.Root(ctx)
	if err != nil {
		return nil, err
	}
	if !images.IsIndexType(desc.MediaType) {
		return nil, &convert.RefusedError{What: src.Name(), Why: "is no set of checkpoints: it is of type " + desc.MediaType + " and no index"}
	}
	var index ocispec.Index
	if _, err := convert.FetchDocument(ctx, src, desc, &index); err != nil {
		return nil, err
	}
	s, why := read(index)
	if why != "" {
		return nil, &convert.RefusedError{What: src.Name(), Why: "is no set of checkpoints: " + why}
	}
	s.Name, s.Descriptor = src.Name(), desc
	return s, nil
}

// containerName is what Kubernetes, nerdctl and containerd call one: it becomes part of the
// name of what is restored.
var containerName = regexp.MustCompile(`^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$`)

// read makes a set of what came from outside, or says what is wrong with it.
func read(index ocispec.Index) (s *Set, why string) {
	if index.ArtifactType != ArtifactType {
		return nil, fmt.Sprintf("its artifact type is %q", index.ArtifactType)
	}
	s = &Set{Previous: digest.Digest(index.Annotations[AnnotationPrevious])}
	var err error
	if s.Generation, err = strconv.Atoi(index.Annotations[AnnotationGeneration]); err != nil || s.Generation < 1 {
		return nil, fmt.Sprintf("its generation is %q", index.Annotations[AnnotationGeneration])
	}
	if s.Previous != "" && s.Previous.Validate() != nil {
		return nil, fmt.Sprintf("the set before it is %q", s.Previous)
	}
	if list := index.Annotations[AnnotationEarlier]; list != "" {
		for d := range strings.SplitSeq(list, ",") {
			s.Earlier = append(s.Earlier, digest.Digest(d))
		}
	}
	for _, d := range s.Earlier {
		if d.Validate() != nil || len(s.Earlier) > maxEarlier {
			return nil, fmt.Sprintf("of the %d sets before the last one is %q", len(s.Earlier), d)
		}
	}
	if s.Created, err = time.Parse(time.RFC3339Nano, index.Annotations[ocispec.AnnotationCreated]); err != nil {
		return nil, fmt.Sprintf("it was created at %q", index.Annotations[ocispec.AnnotationCreated])
	}
	for _, m := range index.Manifests {
		s.Containers = append(s.Containers, Container{m.Annotations[AnnotationContainer], m})
	}
	if err := check(s.Containers); err != nil {
		return nil, err.Error()
	}
	return s, ""
}

// check refuses what no set may have.
func check(all []Container) error {
	if len(all) == 0 || len(all) > MaxContainers {
		return fmt.Errorf("it has %d checkpoints, and 1 to %d are a set: %w", len(all), MaxContainers, errdefs.ErrInvalidArgument)
	}
	names := map[string]bool{}
	for _, c := range all {
		switch {
		case len(c.Name) > 76 || !containerName.MatchString(c.Name):
			return fmt.Errorf("%q is no name of a container: %w", c.Name, errdefs.ErrInvalidArgument)
		case names[c.Name]:
			return fmt.Errorf("it has two containers %s: %w", c.Name, errdefs.ErrInvalidArgument)
		case !images.IsManifestType(c.Image.MediaType) || c.Image.Digest.Validate() != nil:
			return fmt.Errorf("container %s is %s of type %s, and no manifest: %w", c.Name, c.Image.Digest, c.Image.MediaType, errdefs.ErrInvalidArgument)
		}
		names[c.Name] = true
	}
	return nil
}

// Check refuses containers that cannot be in one set.
func Check(names ...string) error {
	var all []Container
	for _, name := range names {
		all = append(all, Container{name, convert.Describe(ocispec.MediaTypeImageManifest, nil)})
	}
	if err := check(all); err != nil {
		return fmt.Errorf("a set of checkpoints: %w", err)
	}
	return nil
}

// Before is the set that dst's tag names; nil if it names nothing, or something else.
func Before(ctx context.Context, dst convert.Target) (*Set, error) {
	s, err := Open(ctx, dst)
	if errors.Is(err, convert.ErrNotFound) || errors.As(err, new(*convert.RefusedError)) {
		return nil, nil
	}
	return s, err
}

// Push publishes a set of images that dst has, and moves the tag if that names still what
// it named when dst was first asked: of two who make a set at the same time one fails.
func Push(ctx context.Context, dst convert.Target, taken time.Time, all []Container) (*Set, error) {
	if err := check(all); err != nil {
		return nil, fmt.Errorf("a set of checkpoints: %w", err)
	}
	s := &Set{Name: dst.Name(), Generation: 1, Created: taken.UTC(), Containers: all}
	was, err := dst.Root(ctx)
	if err != nil && !errors.Is(err, convert.ErrNotFound) {
		return nil, err
	}
	before, err := Before(ctx, dst)
	if err != nil {
		return nil, err
	}
	if before != nil && before.Generation == math.MaxInt { // somebody has written that
		return nil, &convert.ConflictError{What: dst.Name(), Why: fmt.Sprintf("names a set of generation %d, after which there is none: give another tag", before.Generation)}
	}
	if before != nil {
		s.Generation, s.Previous, s.Earlier = before.Generation+1, before.Descriptor.Digest, before.Ancestors()
		s.Earlier = s.Earlier[:min(len(s.Earlier), maxEarlier)]
	}
	raw, err := json.Marshal(s.index())
	if err != nil {
		return nil, err
	}
	s.Descriptor = convert.Describe(ocispec.MediaTypeImageIndex, raw)
	if err := dst.PutManifest(ctx, s.Descriptor, raw); err != nil {
		return nil, err
	}
	return s, dst.Tag(ctx, s.Descriptor, raw, was.Digest)
}

func (s *Set) index() ocispec.Index {
	index := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, ArtifactType: ArtifactType,
		Annotations: map[string]string{
			ocispec.AnnotationCreated: s.Created.Format(time.RFC3339Nano),
			AnnotationGeneration:      strconv.Itoa(s.Generation),
		},
	}
	if s.Previous != "" {
		index.Annotations[AnnotationPrevious] = s.Previous.String()
	}
	var earlier []string
	for _, d := range s.Earlier {
		earlier = append(earlier, d.String())
	}
	if len(earlier) > 0 {
		index.Annotations[AnnotationEarlier] = strings.Join(earlier, ",")
	}
	for _, c := range s.Containers {
		m := ocispec.Descriptor{MediaType: c.Image.MediaType, Digest: c.Image.Digest, Size: c.Image.Size, Annotations: map[string]string{AnnotationContainer: c.Name}}
		index.Manifests = append(index.Manifests, m)
	}
	return index
}
