package provenance

import (
	"context"
	"crypto/ed25519"
	"encoding/json"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
)

// Made says how something was made that BuildKit has not built.
type Made struct {
	Type       string            // SLSA's buildType, a URI
	Builder    string            // SLSA's builder.id, a URI
	Parameters map[string]string // what was asked for; no secrets
	Name       string            // of the image
}

// Attest signs how image, a manifest in dst's repository, was made, as a statement with
// SLSA provenance, and attaches it there. Signed again by the same key it is the same.
func Attest(ctx context.Context, dst convert.Target, image ocispec.Descriptor, made Made, key ed25519.PrivateKey) error {
	type object = map[string]any
	raw, err := json.Marshal(object{ // keys are sorted
		"_type":         "https://in-toto.io/Statement/v1",
		"subject":       []object{{"name": made.Name, "digest": object{image.Digest.Algorithm().String(): image.Digest.Encoded()}}},
		"predicateType": slsa + "v1",
		"predicate": object{
			"buildDefinition": object{"buildType": made.Type, "externalParameters": made.Parameters},
			"runDetails":      object{"builder": object{"id": made.Builder}},
		},
	})
	if err != nil {
		return err
	}
	return attach(ctx, dst, image, slsa+"v1", seal(raw, key))
}
