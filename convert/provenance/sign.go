package provenance

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/lithify/lithify/convert"
)

// ArtifactType is of the manifest that carries a signed statement, and the media type of its
// one layer.
const ArtifactType = "application/vnd.dsse.envelope.v1+json"

const (
	payloadType = "application/vnd.in-toto+json"
	slsa        = "https://slsa.dev/provenance/"

	// BuildKit's annotations of an index's entries, and of an attestation's layers.
	annotationKind      = "vnd.docker.reference.type"
	annotationImage     = "vnd.docker.reference.digest"
	annotationPredicate = "in-toto.io/predicate-type"
	attestation         = "attestation-manifest"
)

// Sign signs the provenance of each image of an index that BuildKit has pushed to dst's
// repository, and attaches it there. Without any there is nothing to do. Signed again by the
// same key it is the same, to the byte.
func Sign(ctx context.Context, dst convert.Target, root ocispec.Descriptor, key ed25519.PrivateKey) error {
	if root.MediaType != ocispec.MediaTypeImageIndex {
		return nil
	}
	var index ocispec.Index
	if _, err := convert.FetchDocument(ctx, dst, root, &index); err != nil {
		return err
	}
	for _, d := range index.Manifests {
		if d.Annotations[annotationKind] != attestation {
			continue
		}
		i := slices.IndexFunc(index.Manifests, func(m ocispec.Descriptor) bool { return m.Digest.String() == d.Annotations[annotationImage] })
		if i < 0 {
			return refused(d.Digest, "is about %s, which is not in %s", d.Annotations[annotationImage], root.Digest)
		}
		if err := signAttestation(ctx, dst, index.Manifests[i], d, key); err != nil {
			return err
		}
	}
	return nil
}

func signAttestation(ctx context.Context, dst convert.Target, image, attestation ocispec.Descriptor, key ed25519.PrivateKey) error {
	var m ocispec.Manifest
	if _, err := convert.FetchDocument(ctx, dst, attestation, &m); err != nil {
		return err
	}
	for _, layer := range m.Layers {
		if layer.MediaType != payloadType || !strings.HasPrefix(layer.Annotations[annotationPredicate], slsa) {
			continue
		}
		var s statement
		raw, err := convert.FetchDocument(ctx, dst, layer, &s)
		if err != nil {
			return err
		}
		if err := s.check(image.Digest); err != nil {
			return refused(layer.Digest, "%v", err)
		}
		if err := attach(ctx, dst, image, s.PredicateType, seal(raw, key)); err != nil {
			return fmt.Errorf("attach the provenance of %s: %w", image.Digest, err)
		}
	}
	return nil
}

func seal(statement []byte, key ed25519.PrivateKey) dsse.Envelope {
	return dsse.Envelope{
		PayloadType: payloadType,
		Payload:     base64.StdEncoding.EncodeToString(statement),
		Signatures:  []dsse.Signature{{Sig: base64.StdEncoding.EncodeToString(ed25519.Sign(key, dsse.PAE(payloadType, statement)))}},
	}
}

// attach pushes an envelope as a referrer of image.
func attach(ctx context.Context, dst convert.Target, image ocispec.Descriptor, predicate string, envelope dsse.Envelope) error {
	raw, err := json.Marshal(envelope)
	if err != nil {
		return err
	}
	layer := convert.Describe(ArtifactType, raw)
	if err := convert.PushDocument(ctx, dst, layer, raw); err != nil {
		return err
	}
	config := ocispec.DescriptorEmptyJSON
	if err := convert.PushDocument(ctx, dst, config, config.Data); err != nil {
		return err
	}
	config.Data = nil
	m := ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: ArtifactType,
		Config:       config,
		Layers:       []ocispec.Descriptor{layer},
		Subject:      &ocispec.Descriptor{MediaType: image.MediaType, Digest: image.Digest, Size: image.Size},
		Annotations:  map[string]string{annotationPredicate: predicate},
	}
	if raw, err = json.Marshal(m); err != nil {
		return err
	}
	desc := convert.Describe(m.MediaType, raw)
	if err := dst.PutManifest(ctx, desc, raw); err != nil {
		return err
	}
	desc.ArtifactType, desc.Annotations = m.ArtifactType, m.Annotations
	return list(ctx, dst, image.Digest, desc)
}

// tries are for others that attach something to the same image at the same time.
const tries = 10

// list has a referrer found. A registry that has the API has listed it by now; for others
// there is a tag.
func list(ctx context.Context, dst convert.Target, image digest.Digest, desc ocispec.Descriptor) error {
	for n := 0; ; n++ {
		found, err := dst.Referrers(ctx, image)
		if err != nil || has(found, desc.Digest) {
			return err
		}
		err = tag(ctx, dst, image, desc)
		if !errors.Is(err, convert.ErrTagMoved) || n == tries {
			return err
		}
	}
}

// tag adds a referrer to those that the image's fallback tag names.
func tag(ctx context.Context, dst convert.Target, image digest.Digest, desc ocispec.Descriptor) error {
	fallback, err := dst.WithTag(image.Algorithm().String() + "-" + image.Encoded())
	if err != nil {
		return err
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	was, err := fallback.Head(ctx)
	switch {
	case errors.Is(err, convert.ErrNotFound):
		was.Digest = ""
	case err != nil:
		return err
	default:
		if _, err := convert.FetchDocument(ctx, fallback, was, &index); err != nil {
			return err
		}
	}
	index.Manifests = append(index.Manifests, desc)
	raw, err := json.Marshal(index)
	if err != nil {
		return err
	}
	now := convert.Describe(index.MediaType, raw)
	if err := fallback.PutManifest(ctx, now, raw); err != nil {
		return err
	}
	return fallback.Tag(ctx, now, raw, was.Digest)
}

func has(descs []ocispec.Descriptor, dgst digest.Digest) bool {
	return slices.ContainsFunc(descs, func(d ocispec.Descriptor) bool { return d.Digest == dgst })
}

func refused(what digest.Digest, format string, args ...any) error {
	return &convert.RefusedError{What: what.String(), Why: fmt.Sprintf(format, args...)}
}
