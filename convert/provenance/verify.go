package provenance

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/lithify/lithify/convert"
)

// Signed is the provenance of an image, signed by one of the keys that were asked for.
type Signed struct {
	Image     digest.Digest   `json:"image"`
	Platform  string          `json:"platform,omitempty"` // as the index has it
	Builder   string          `json:"builder"`            // SLSA's builder.id
	Type      string          `json:"type,omitempty"`     // SLSA's buildType; whoever asks for a build may choose the builder, and not this
	Statement json.RawMessage `json:"statement"`
}

// Verify finds for each image of src a statement that one of keys has signed. An image that
// has none is an error, a *convert.RefusedError. EROFS variants are passed over: BuildKit has
// not built them, and nobody signs of what they were made.
func Verify(ctx context.Context, src convert.Source, keys []ed25519.PublicKey) (found []Signed, err error) {
	images, err := imagesOf(ctx, src)
	if err != nil {
		return nil, err
	}
	for _, image := range images {
		s, err := verify(ctx, src, image.Digest, keys)
		if err != nil {
			return nil, err
		}
		if image.Platform != nil {
			s.Platform = platforms.FormatAll(*image.Platform)
		}
		found = append(found, *s)
	}
	return found, nil
}

// imagesOf are the manifests of src that BuildKit has built.
func imagesOf(ctx context.Context, src convert.Source) (images []ocispec.Descriptor, err error) {
	root, err := src.Root(ctx)
	if err != nil {
		return nil, err
	}
	if root.MediaType != ocispec.MediaTypeImageIndex {
		return []ocispec.Descriptor{root}, nil
	}
	var index ocispec.Index
	if _, err := convert.FetchDocument(ctx, src, root, &index); err != nil {
		return nil, err
	}
	for _, d := range index.Manifests {
		if d.Annotations[annotationKind] != attestation && d.Annotations[convert.AnnotationSource] == "" {
			images = append(images, d)
		}
	}
	if len(images) == 0 {
		return nil, refused(root.Digest, "has no image but variants")
	}
	return images, nil
}

func verify(ctx context.Context, src convert.Source, image digest.Digest, keys []ed25519.PublicKey) (*Signed, error) {
	referrers, err := src.Referrers(ctx, image)
	if err != nil {
		return nil, err
	}
	why := "no signed provenance is attached to it"
	for _, d := range referrers {
		if d.ArtifactType != ArtifactType && d.ArtifactType != ocispec.MediaTypeEmptyJSON { // what registries tell that do not know the field
			continue
		}
		s, err := open(ctx, src, d, image, keys)
		if err != nil && !errdefs.IsInvalidArgument(err) { // of what is broken the others may be whole
			return nil, err
		}
		if s != nil {
			return s, nil
		}
		why = "none of these keys has signed the provenance that is attached to it"
	}
	return nil, refused(image, "%s", why)
}

// open gives what a referrer says, or nil where nobody of keys has said it.
func open(ctx context.Context, src convert.Source, d ocispec.Descriptor, image digest.Digest, keys []ed25519.PublicKey) (*Signed, error) {
	var m ocispec.Manifest
	if _, err := convert.FetchDocument(ctx, src, d, &m); err != nil {
		return nil, err
	}
	if len(m.Layers) != 1 || m.Layers[0].MediaType != ArtifactType {
		return nil, nil
	}
	var envelope dsse.Envelope
	if _, err := convert.FetchDocument(ctx, src, m.Layers[0], &envelope); err != nil {
		return nil, err
	}
	raw, ok := unseal(envelope, keys)
	if !ok {
		return nil, nil
	}
	var s statement
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, refused(d.Digest, "no statement: %v", err)
	}
	if err := s.check(image); err != nil {
		return nil, refused(d.Digest, "%v", err)
	}
	return &Signed{Image: image, Builder: s.builder(), Type: s.buildType(), Statement: raw}, nil
}

func unseal(e dsse.Envelope, keys []ed25519.PublicKey) (statement []byte, ok bool) {
	statement, err := e.DecodeB64Payload()
	if err != nil || e.PayloadType != payloadType {
		return nil, false
	}
	said := dsse.PAE(payloadType, statement)
	for _, s := range e.Signatures {
		sig, err := base64.StdEncoding.DecodeString(s.Sig)
		if err == nil && slices.ContainsFunc(keys, func(k ed25519.PublicKey) bool { return ed25519.Verify(k, said, sig) }) {
			return statement, true
		}
	}
	return nil, false
}

// statement is what counts here of an in-toto statement with SLSA provenance, in the versions
// 0.2 and 1 of that.
type statement struct {
	Subject []struct {
		Digest map[string]string `json:"digest"`
	} `json:"subject"`
	PredicateType string `json:"predicateType"`
	Predicate     struct {
		Builder    struct{ ID string } `json:"builder"`
		RunDetails struct {
			Builder struct{ ID string } `json:"builder"`
		} `json:"runDetails"`
		BuildType       string // of version 0.2
		BuildDefinition struct{ BuildType string }
	} `json:"predicate"`
}

func (s statement) builder() string {
	return cmp.Or(s.Predicate.RunDetails.Builder.ID, s.Predicate.Builder.ID)
}

func (s statement) buildType() string {
	return cmp.Or(s.Predicate.BuildDefinition.BuildType, s.Predicate.BuildType)
}

// check refuses a statement that is not provenance of image.
func (s statement) check(image digest.Digest) error {
	if !strings.HasPrefix(s.PredicateType, slsa) {
		return fmt.Errorf("%s is no provenance", s.PredicateType)
	}
	for _, subject := range s.Subject {
		if subject.Digest[image.Algorithm().String()] == image.Encoded() {
			return nil
		}
	}
	return fmt.Errorf("it is not about %s", image)
}
