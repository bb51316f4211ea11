package restore

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/restore/archive"
)

// unpackBound is how long containerd may unpack an image without a word.
const unpackBound = 15 * time.Minute

// base finds the image that a checkpointed container stood on, and unpacks it. It is
// looked for by its digest alone: in what containerd has, under whatever name, and then
// where name says that it came from. A tag is neither followed nor made.
func (r *run) base(ctx context.Context, cp *checkpoint) (client.Image, error) {
	pinned, dgst, err := r.pin(cp.Base)
	if err != nil {
		return nil, err
	}
	img, err := r.localImage(ctx, dgst)
	if errdefs.IsNotFound(err) {
		img, err = r.pull(ctx, pinned, dgst)
	}
	if err != nil {
		return nil, fmt.Errorf("base image %s: %w", pinned, err)
	}
	unpacked, err := img.IsUnpacked(ctx, r.opts.Snapshotter)
	if err == nil && !unpacked {
		defer r.opts.Quiet(unpackBound, "containerd unpacks the base image")()
		err = img.Unpack(ctx, r.opts.Snapshotter)
	}
	if err != nil {
		return nil, fmt.Errorf("unpack base image %s for %s: %w", pinned, r.opts.Snapshotter, err)
	}
	return img, nil
}

// pin is the reference of the base image by its digest and without its tag.
func (r *run) pin(base archive.Base) (pinned string, dgst digest.Digest, err error) {
	if r.opts.Base != "" {
		name, d, _ := strings.Cut(r.opts.Base, "@")
		base = archive.Base{Name: name, Digest: digest.Digest(d)}
	}
	if base.Digest.Validate() != nil {
		return "", "", fmt.Errorf("the checkpoint does not say by its digest which image it stands on (it calls it %q): name that with --base: %w", base.Name, errdefs.ErrFailedPrecondition)
	}
	ref, err := reference.ParseDockerRef(base.Name)
	if err != nil {
		return "", "", fmt.Errorf("base image %q: %w: %w", base.Name, err, errdefs.ErrInvalidArgument)
	}
	return reference.TrimNamed(ref).Name() + "@" + base.Digest.String(), base.Digest, nil
}

// localImage is an image of containerd's with the digest, unpacked or with all of its
// content.
func (r *run) localImage(ctx context.Context, dgst digest.Digest) (client.Image, error) {
	c := r.daemon.Client()
	all, err := c.ImageService().List(ctx, fmt.Sprintf("target.digest==%s", dgst))
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	for _, i := range all {
		img := client.NewImage(c, i)
		if unpacked, err := img.IsUnpacked(ctx, r.opts.Snapshotter); err == nil && unpacked {
			return img, nil
		}
		whole, _, _, _, err := images.Check(ctx, c.ContentStore(), i.Target, platforms.Default())
		if err != nil {
			return nil, fmt.Errorf("check image %s: %w", i.Name, err)
		}
		if whole {
			return img, nil
		}
	}
	return nil, fmt.Errorf("containerd has not got it: %w", errdefs.ErrNotFound)
}

// pull brings the image into containerd through our own registry client, which has the
// credentials and keeps to the registry's limits.
func (r *run) pull(ctx context.Context, pinned string, dgst digest.Digest) (client.Image, error) {
	if r.opts.Open == nil {
		return nil, fmt.Errorf("containerd has not got it: %w", errdefs.ErrNotFound)
	}
	src, err := r.opts.Open(pinned)
	if err != nil {
		return nil, err
	}
	defer r.opts.Quiet(unpackBound, "containerd pulls and unpacks the base image")()
	return r.daemon.Client().Pull(ctx, pinned,
		client.WithResolver(resolver{src, dgst}),
		client.WithPlatformMatcher(platforms.Default()),
		client.WithPullUnpack,
		client.WithPullSnapshotter(r.opts.Snapshotter),
		client.WithPullLabel(labelUse, useBase))
}

// resolver is a source as containerd's client pulls from one.
type resolver struct {
	convert.Source
	want digest.Digest
}

// Resolve implements remotes.Resolver.
func (s resolver) Resolve(ctx context.Context, ref string) (string, ocispec.Descriptor, error) {
	desc, err := s.Root(ctx)
	if err == nil && desc.Digest != s.want {
		err = fmt.Errorf("%s is %s and not %s: %w", s.Name(), desc.Digest, s.want, errdefs.ErrDataLoss)
	}
	return ref, desc, err
}

// Fetcher implements remotes.Resolver. containerd checks digest and size of what comes.
func (s resolver) Fetcher(context.Context, string) (remotes.Fetcher, error) { return s, nil }

// Pusher implements remotes.Resolver.
func (resolver) Pusher(context.Context, string) (remotes.Pusher, error) {
	return nil, errdefs.ErrNotImplemented
}
