package registry

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
)

// referrers finds what refers to dgst among a layout's entries.
func (x *layoutIndex) referrers(ctx context.Context, dgst digest.Digest, read func(ocispec.Descriptor) ([]byte, error)) ([]ocispec.Descriptor, error) {
	var found []ocispec.Descriptor
	for _, d := range x.descs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !isManifest(d.MediaType) {
			continue
		}
		tag := d.Annotations[ocispec.AnnotationRefName]
		if slices.Contains(cosignTags(dgst), tag) {
			found = append(found, d)
			continue
		}
		raw, err := read(d)
		if errors.Is(err, convert.ErrNotFound) {
			continue // a partial layout
		}
		if err != nil {
			return nil, err
		}
		if tag == FallbackTag(dgst) && d.MediaType == ocispec.MediaTypeImageIndex {
			index, err := parseIndex(raw)
			if err != nil {
				return nil, err
			}
			found = append(found, index.Manifests...)
		}
		if subjectOf(raw) == dgst {
			found = append(found, d)
		}
	}
	return unique(found), nil
}

func cosignTags(d digest.Digest) []string {
	var tags []string
	for _, suffix := range cosignSuffixes {
		tags = append(tags, FallbackTag(d)+suffix)
	}
	return tags
}

func subjectOf(raw []byte) digest.Digest {
	var m struct {
		Subject *ocispec.Descriptor `json:"subject"`
	}
	if json.Unmarshal(raw, &m) != nil || m.Subject == nil {
		return ""
	}
	return m.Subject.Digest
}
