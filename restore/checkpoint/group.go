package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.opentelemetry.io/otel/attribute"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/commit"
	"github.com/lithify/lithify/convert/stack"
	"github.com/lithify/lithify/restore/archive"
	"github.com/lithify/lithify/restore/set"
)

// GroupResult tells what was published.
type GroupResult struct {
	Target     string             `json:"target"`
	Descriptor ocispec.Descriptor `json:"descriptor"` // of the set
	Generation int                `json:"generation"`
	Previous   digest.Digest      `json:"previous,omitempty"` // the set before
	Containers []*Result          `json:"containers"`
	Frozen     time.Duration      `json:"frozen"`
}

// one is a container of a group.
type one struct {
	*stack.Container
	base commit.Base
	dir  string
	cp   *archive.Checkpoint
}

// Group makes checkpoint images of several containers, of one instant, and publishes them
// as a set: all stand still before the first is dumped, and none goes on before the last
// is. Each runs on also if this process dies meanwhile.
//
// What Container says of errors holds: the tag names what it named before, and all run on.
func Group(ctx context.Context, cs []*stack.Container, dst convert.Target, o Options) (_ *GroupResult, err error) {
	ctx, span := tracer.Start(ctx, "checkpoint group")
	span.SetAttributes(attribute.Int("lithify.containers", len(cs)), attribute.String("lithify.target", dst.Name()))
	defer func() {
		if err != nil {
			span.RecordError(err)
		}
		span.End()
	}()
	dir, err := tempDir(o.TempDir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	group, err := o.prepare(ctx, cs, dir)
	if err != nil {
		return nil, err
	}
	p, err := o.pause(ctx, func() (func() error, error) { return o.dumpAll(ctx, group) })
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.thaw()) }()
	r, err := o.publishAll(ctx, dst, group, p.began)
	if err != nil {
		return nil, err
	}
	r.Frozen = p.took
	if o.Stop {
		for i, one := range group {
			r.Containers[i].Stopped = true
			err = errors.Join(err, kill(ctx, one.Container))
		}
	}
	return r, err
}

// tempDir makes a directory that containerd sees under the same name.
func tempDir(in string) (dir string, err error) {
	dir, err = os.MkdirTemp(in, "lithify-checkpoint-")
	if err == nil {
		dir, err = filepath.Abs(dir) // containerd's shim has another working directory
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", convert.ErrTemp, err)
	}
	return dir, nil
}

// prepare refuses what cannot be a group while all of it runs.
func (o Options) prepare(ctx context.Context, cs []*stack.Container, dir string) (group []*one, err error) {
	var names []string
	for i, c := range cs {
		if slices.ContainsFunc(group, func(g *one) bool { return g.ID() == c.ID() }) {
			return nil, fmt.Errorf("container %s is named twice: %w", c.ID(), errdefs.ErrInvalidArgument)
		}
		if err := canDump(ctx, c); err != nil {
			return nil, err
		}
		g := &one{Container: c, dir: filepath.Join(dir, strconv.Itoa(i))}
		if g.base, err = commit.FindBase(ctx, c, o.Fallback); err != nil {
			return nil, err
		}
		if g.cp, err = describe(ctx, c, g.base, time.Time{}); err != nil {
			return nil, err
		}
		if err := os.Mkdir(g.dir, 0o700); err != nil {
			return nil, err
		}
		group, names = append(group, g), append(names, g.cp.Name)
	}
	return group, set.Check(names...)
}

// dumpAll freezes all and then dumps one after the other. They stand still when it returns,
// until thaw is called, unless there is an error.
func (o Options) dumpAll(ctx context.Context, group []*one) (thaw func() error, err error) {
	var frozen []func() error
	thaw = func() (err error) {
		for _, f := range slices.Backward(frozen) {
			err = errors.Join(err, f())
		}
		return err
	}
	for _, g := range group {
		f, err := g.Freeze(ctx)
		if err != nil {
			return nil, errors.Join(err, thaw())
		}
		frozen = append(frozen, f)
	}
	for _, g := range group {
		if err := o.dumpFrozen(ctx, g.Container, g.dir); err != nil {
			return nil, errors.Join(err, thaw())
		}
	}
	return thaw, nil
}

// publishAll pushes the images, and then the set.
func (o Options) publishAll(ctx context.Context, dst convert.Target, group []*one, began time.Time) (*GroupResult, error) {
	before, err := set.Before(ctx, dst)
	if err != nil {
		return nil, err
	}
	r := &GroupResult{Target: dst.Name()}
	var all []set.Container
	for _, g := range group {
		g.cp.Checkpointed = began.UTC()
		p, err := o.publish(ctx, memberOf(dst, before, g.cp.Name), g.cp, g.dir)
		if err != nil {
			return nil, err
		}
		p.Container = g.ID()
		r.Containers, all = append(r.Containers, p), append(all, set.Container{Name: g.cp.Name, Image: p.Descriptor})
		if err := os.RemoveAll(g.dir); err != nil {
			return nil, err
		}
	}
	s, err := set.Push(ctx, dst, began, all)
	if err != nil {
		return nil, err
	}
	r.Descriptor, r.Generation, r.Previous = s.Descriptor, s.Generation, s.Previous
	return r, nil
}

// member is where an image of a set is published: where the set is, and without a tag of
// its own. What it names now is the image of the same container in the set before.
type member struct {
	convert.Target
	was ocispec.Descriptor
}

func memberOf(dst convert.Target, before *set.Set, name string) member {
	m := member{Target: dst}
	if before == nil {
		return m
	}
	for _, c := range before.Containers {
		if c.Name == name {
			m.was = c.Image
		}
	}
	return m
}

// Root implements convert.Source.
func (m member) Root(context.Context) (ocispec.Descriptor, error) {
	if m.was.Digest == "" {
		return m.was, fmt.Errorf("%s has no such container: %w", m.Name(), convert.ErrNotFound)
	}
	return m.was, nil
}

// Head implements convert.Target.
func (m member) Head(ctx context.Context) (ocispec.Descriptor, error) { return m.Root(ctx) }

// Tag implements convert.Target: the set gets the tag.
func (member) Tag(context.Context, ocispec.Descriptor, []byte, digest.Digest) error { return nil }
