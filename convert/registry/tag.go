package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
)

// Tag moves the tag from was to desc. A tag that names desc already is left.
//
// The tag is looked up, written under the condition that it did not move since
// (If-Match with the registry's entity tag, If-None-Match where there was
// nothing), and looked up again. What has to wait begins again with the look. A
// registry that heeds the condition answers 412 and nothing is lost. One that does
// not (distribution among them) leaves a window between the first look and the
// write, about one round trip, in which somebody else's write is overwritten
// unseen; a write after ours is seen by the second look. Who must not lose that
// race needs one writer for each tag.
func (r *Repository) Tag(ctx context.Context, desc ocispec.Descriptor, raw []byte, was digest.Digest) error {
	if err := checkManifest(desc, raw); err != nil {
		return err
	}
	if err := r.tag(ctx, desc, raw, was); err != nil {
		return fmt.Errorf("tag %s as %s: %w", desc.Digest, r.ref, err)
	}
	return nil
}

func (r *Repository) tag(ctx context.Context, desc ocispec.Descriptor, raw []byte, was digest.Digest) error {
	for n := 0; ; n++ {
		err := r.swap(once(ctx), desc, raw, was)
		if err == nil {
			return nil
		}
		if err := r.rest(ctx, n, err); err != nil {
			return err
		}
	}
}

// swap writes at most once, and nothing waits between its look and that.
func (r *Repository) swap(ctx context.Context, desc ocispec.Descriptor, raw []byte, was digest.Digest) error {
	now, etag, err := r.named(ctx)
	if err != nil {
		return err
	}
	if now == desc.Digest {
		return nil // an earlier attempt of ours, or nothing to do
	}
	if now != was {
		return moved(now)
	}
	err = r.put(ctx, r.ref.Identifier(), desc, raw, condition(now, etag))
	if err != nil && !errors.Is(err, errdefs.ErrFailedPrecondition) {
		return err
	}
	// After a 412 too, to say what the tag names now.
	now, _, err = r.named(ctx)
	if err != nil {
		return err
	}
	if now != desc.Digest {
		return moved(now)
	}
	return nil
}

// named is the digest the tag names now, empty for nothing.
func (r *Repository) named(ctx context.Context) (digest.Digest, string, error) {
	desc, etag, err := r.head(ctx, r.ref.Identifier())
	if errors.Is(err, convert.ErrNotFound) {
		return "", "", nil
	}
	return desc.Digest, etag, err
}

func condition(now digest.Digest, etag string) http.Header {
	switch {
	case now == "":
		return http.Header{"If-None-Match": {"*"}}
	case etag == "":
		etag = `"` + now.String() + `"`
	}
	return http.Header{"If-Match": {etag}}
}

func moved(now digest.Digest) error {
	if now == "" {
		return fmt.Errorf("it names nothing now: %w", convert.ErrTagMoved)
	}
	return fmt.Errorf("it names %s now: %w", now, convert.ErrTagMoved)
}
