package commit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/pack"
	"github.com/lithify/lithify/convert/stack"
	"github.com/lithify/lithify/convert/upper"
)

var tracer = otel.Tracer("github.com/lithify/lithify/convert/commit")

// Options say what is made of a container. The zero value works.
type Options struct {
	Message string // of the history; default none
	Author  string // of the image and the history; default the base image's
	// Changes are Dockerfile instructions that change the config: CMD, ENTRYPOINT, ENV,
	// EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME and WORKDIR.
	Changes []string
	// Compression of the new layer; default pack.Gzip.
	Compression pack.Compression
	// Exclude are patterns of path.Match for names relative to the container's root.
	// What matches is left out with all below it.
	Exclude []string
	// Running lets the container go on while its files are read. One that changes then
	// may come out half changed, and one that shrinks is an error.
	Running bool
	// Epoch, if set, is the image's time, and no file of the layer is later: the same
	// container gives the same digest each time (SOURCE_DATE_EPOCH).
	Epoch time.Time

	// Fallback reads what containerd has not: layers of the base image that it has
	// unpacked and thrown away, for example. nil: that is an error.
	Fallback func(image string) (convert.Source, error)
	// Frozen hears how long the container was paused.
	Frozen func(time.Duration)

	// Convert says how the image is converted and published. Platforms and the like
	// are the container's.
	Convert convert.Options
}

// Validate refuses what no container could be committed with: an errdefs.ErrInvalidArgument.
func (o Options) Validate() error {
	if _, err := pack.Parse(string(o.Compression)); err != nil {
		return err
	}
	for _, p := range o.Exclude {
		if _, err := path.Match(p, ""); err != nil || strings.Trim(p, "/") == "" {
			return fmt.Errorf("pattern %q to exclude does not parse: %w", p, errdefs.ErrInvalidArgument)
		}
	}
	return apply(&ocispec.ImageConfig{}, o.Changes)
}

// Container makes an image of c and publishes it to dst, as [convert.Image] does. The
// container is paused while its files are read, and runs on before anything is
// published. Without changes it has a layer of nothing but its root.
//
// What cannot be committed is an errdefs.ErrFailedPrecondition, and a wrong option an
// errdefs.ErrInvalidArgument. On any error nothing is published.
func Container(ctx context.Context, c *stack.Container, dst convert.Target, o Options) (_ *convert.Result, err error) {
	ctx, span := tracer.Start(ctx, "commit container")
	span.SetAttributes(attribute.String("lithify.container", c.ID()), attribute.String("lithify.target", dst.Name()))
	defer func() {
		if err != nil {
			span.RecordError(err)
		}
		span.End()
	}()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	skip, err := o.skip(ctx, c)
	if err != nil {
		return nil, err
	}
	src := newSource(c, o.Fallback)
	defer func() { err = errors.Join(err, src.close()) }()
	base, err := src.findBase(ctx, c)
	if err != nil {
		return nil, err
	}
	if src.layer, err = o.readLayer(ctx, c, skip); err != nil {
		return nil, err
	}
	if err := src.add(base, o); err != nil {
		return nil, err
	}
	o.Convert.Platforms, o.Convert.AllPlatforms = []ocispec.Platform{base.platform()}, false
	return convert.Image(ctx, src, dst, o.Convert)
}

// readLayer reads the container's changes while it stands still.
func (o Options) readLayer(ctx context.Context, c *stack.Container, skip skipper) (_ *pack.Layer, err error) {
	ctx, span := tracer.Start(ctx, "read changes")
	defer span.End()
	l, err := pack.New(o.Convert.TempDir, o.Compression, o.told())
	if err != nil {
		return nil, err
	}
	thaw := func() error { return nil }
	if !o.Running {
		if thaw, err = c.Freeze(ctx); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	began := time.Now()
	err = errors.Join(o.fill(ctx, c, l, skip), thaw())
	if o.Frozen != nil && !o.Running {
		o.Frozen(time.Since(began))
	}
	if err == nil {
		err = l.Finish()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("changes of container %s: %w", c.ID(), err), l.Close())
	}
	return l, nil
}

// told tells of each piece: to read a container takes as long as it is large, and is a
// sign of life.
func (o Options) told() func(size int64) {
	if o.Convert.Progress == nil {
		return nil
	}
	return func(size int64) { o.Convert.Progress(convert.Event{Phase: "read", Done: size}) }
}

func (o Options) fill(ctx context.Context, c *stack.Container, l *pack.Layer, skip skipper) error {
	up, err := c.Upper(ctx)
	if err != nil {
		return err
	}
	err = upper.Write(ctx, l, up.Dir, upper.Options{ModTime: o.Epoch, Skip: skip, UserXattrs: up.UserXattrs, Owner: up.Owner})
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("reading the container's files takes root: %w: %w", err, errdefs.ErrPermissionDenied)
	}
	return err
}
