package image

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/provenance"
	"github.com/lithify/lithify/restore/archive"
)

// signedType is SLSA's buildType of checkpoints. Whoever may have the pool's key sign a
// build cannot have that call itself one.
const signedType = "https://github.com/lithify/lithify/checkpoint@v1"

func sign(ctx context.Context, dst convert.Target, manifest ocispec.Descriptor, cp *archive.Checkpoint, key ed25519.PrivateKey) error {
	return provenance.Attest(ctx, dst, manifest, provenance.Made{
		Type: signedType, Builder: "https://github.com/lithify/lithify", Name: dst.Name(),
		Parameters: map[string]string{"container": cp.Name, "base": cp.Base.Name + "@" + cp.Base.Digest.String()},
	}, key)
}

// SignedBy refuses an image that none of keys has signed as a checkpoint: a
// [convert.RefusedError].
func (i *Image) SignedBy(ctx context.Context, keys []ed25519.PublicKey) error {
	found, err := provenance.Verify(ctx, i.src, keys)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(found, func(s provenance.Signed) bool { return s.Image == i.Descriptor.Digest && s.Type == signedType }) {
		return &convert.RefusedError{What: i.Name, Why: fmt.Sprintf("is signed, and not as a checkpoint but as a %s", found[0].Type)}
	}
	return nil
}
