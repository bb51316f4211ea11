package checkpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/containerd/v2/client"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/commit"
	"github.com/lithify/lithify/convert/pack"
	"github.com/lithify/lithify/convert/stack"
	"github.com/lithify/lithify/restore/archive"
	"github.com/lithify/lithify/restore/image"
)

// labelContainer is the label by which Kubernetes' runtimes name a container in its pod.
const labelContainer = "io.kubernetes.container.name"

// describe says what the archive is to say of the container.
func describe(ctx context.Context, c *stack.Container, base commit.Base, at time.Time) (*archive.Checkpoint, error) {
	info, err := c.Info(ctx, client.WithoutRefreshedMetadata)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", c.ID(), err)
	}
	host, err := archive.ThisHost(ctx)
	if err != nil {
		return nil, err
	}
	return &archive.Checkpoint{
		Format:       archive.Containerd,
		ID:           c.ID(),
		Name:         cmp.Or(info.Labels[labelContainer], info.Labels[stack.LabelName], c.ID()),
		Pod:          archive.PodOf(info.Labels),
		Base:         archive.Base{Name: base.Name, Digest: base.Image.Digest, ID: base.Config.Digest},
		Runtime:      info.Runtime.Name,
		Created:      info.CreatedAt.UTC(),
		Checkpointed: at.UTC(),
		Labels:       info.Labels,
		Host:         host,
		Spec:         info.Spec.GetValue(),
	}, nil
}

// publish checks what CRIU has written to dir, packs it as an archive and pushes that.
func (o Options) publish(ctx context.Context, dst convert.Target, cp *archive.Checkpoint, dir string) (r *Result, err error) {
	ctx, span := tracer.Start(ctx, "publish checkpoint")
	defer span.End()
	images, err := archive.Validate(dir)
	if err != nil {
		return nil, fmt.Errorf("CRIU's images of container %s: %w", cp.Name, err)
	}
	if cp.Host.Arch == "" { // an engine's archive does not say it, and the images do
		cp.Host.Arch = images.Arch
	}
	var packs []image.Blob
	if o.Split {
		var remove func() error
		if packs, remove, err = o.split(ctx, dst, dir); err != nil {
			return nil, fmt.Errorf("memory of container %s: %w", cp.Name, err)
		}
		defer func() { err = errors.Join(err, remove()) }()
	}
	layer, err := pack.New(o.TempDir, pack.Zstd, o.told())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, layer.Close()) }()
	if err := archive.Write(ctx, layer, dir, cp, archive.WriteOptions{Format: archive.Containerd, WithoutPages: o.Split}); err != nil {
		return nil, fmt.Errorf("archive of container %s: %w", cp.Name, err)
	}
	if err := layer.Finish(); err != nil {
		return nil, err
	}
	first := image.Blob{Descriptor: layer.Descriptor, DiffID: layer.DiffID, Open: func() (io.ReadCloser, error) { return layer.Open(), nil }}
	layers := append([]image.Blob{first}, packs...)
	if len(o.Recipients) > 0 {
		for i, l := range layers {
			if layers[i].Descriptor, layers[i].Open, err = o.Recipients.Seal(l.Descriptor, l.Open); err != nil {
				return nil, err
			}
		}
	}
	desc, err := image.Push(ctx, dst, layers, cp, o.Key)
	if err != nil {
		return nil, err
	}
	return &Result{
		Container: cp.Name, Target: dst.Name(), Descriptor: desc, Base: cp.Base.Name + "@" + cp.Base.Digest.String(),
		Processes: len(images.Processes), Memory: images.Bytes, New: size(layers),
	}, nil
}

// size is how many bytes of layers the target had not.
func size(layers []image.Blob) (n int64) {
	for _, l := range layers {
		if l.Open != nil {
			n += l.Size
		}
	}
	return n
}

// told tells Progress of what is new.
func (o Options) told() func(size int64) {
	if o.Progress == nil {
		return nil
	}
	var before int64
	return func(size int64) {
		o.Progress(size - before)
		before = size
	}
}
