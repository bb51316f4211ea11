package differ

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/cimfs"
)

// applyMerged places what joins the layers up to the one that has just got its place, if its
// image brings that. It is worth no error that containerd does not have it, as where another
// program has filled its store: the snapshotter makes it then. On any error the layer goes, too.
func (a *Applier) applyMerged(ctx context.Context, layer *place, desc ocispec.Descriptor) (err error) {
	merged := ocispec.Descriptor{MediaType: cimfs.MediaTypeMergedZstd, Digest: digest.Digest(desc.Annotations[cimfs.AnnotationMerged])}
	if merged.Digest == "" {
		return nil
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("merged CIM %s: %w", merged.Digest, err), os.Remove(layer.file))
		}
	}()
	p := *layer
	p.file, p.rootHash = filepath.Join(filepath.Dir(layer.file), cimfs.MergedFile), desc.Annotations[cimfs.AnnotationMergedRootHash]
	if err := checkDigests(merged.Digest, p.rootHash); err != nil {
		return err
	}
	blob, err := a.await(ctx, merged)
	if errdefs.IsNotFound(err) {
		a.Log.WarnContext(ctx, "merged CIM not placed: containerd has no such blob", "digest", merged.Digest)
		return nil
	}
	if err != nil {
		return err
	}
	defer blob.Close()
	_, err = p.place(ctx, blob, merged)
	return err
}

func checkDigests(blob digest.Digest, rootHash string) error {
	if err := errors.Join(blob.Validate(), digest.NewDigestFromEncoded(digest.SHA256, rootHash).Validate()); err != nil {
		return fmt.Errorf("annotations %s and %s: %w: %w", cimfs.AnnotationMerged, cimfs.AnnotationMergedRootHash, err, errdefs.ErrInvalidArgument)
	}
	return nil
}

// containerd fetches what is no layer beside the layers, and unpacks these meanwhile.
const (
	lookEvery = 200 * time.Millisecond
	// unseen is how long a blob is waited for of which nothing is seen: it may have to wait
	// for its turn.
	unseen = 5 * time.Second
	// stalled is how long its fetch may stand still, as that of a pull that was broken off does.
	stalled = time.Minute
)

// await opens a blob, once it is there. One that does not come is an errdefs.ErrNotFound.
func (a *Applier) await(ctx context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	for seen := time.Now(); ; {
		blob, err := a.Content.ReaderAt(ctx, desc)
		if !errdefs.IsNotFound(err) {
			return blob, err
		}
		coming, listErr := a.coming(ctx, desc.Digest)
		switch {
		case listErr != nil:
			return nil, listErr
		case coming:
			seen = time.Now()
		case time.Since(seen) > unseen:
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(lookEvery):
		}
	}
}

// coming reports whether a blob is being fetched. What fetches it is called by its digest.
func (a *Applier) coming(ctx context.Context, blob digest.Digest) (bool, error) {
	all, err := a.Content.ListStatuses(ctx)
	if err != nil {
		return false, err
	}
	for _, s := range all {
		if strings.HasSuffix(s.Ref, blob.String()) && time.Since(s.UpdatedAt) < stalled {
			return true, nil
		}
	}
	return false, nil
}
