package checkpoint

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/commit"
	"github.com/lithify/lithify/convert/stack"
	"github.com/lithify/lithify/restore/encrypt"
)

var tracer = otel.Tracer("github.com/lithify/lithify/restore/checkpoint")

// Options say how a container is checkpointed. The zero value works.
type Options struct {
	// Stop ends the container once the image is published. Until then it stands still.
	Stop bool
	// Split publishes memory in chunks: where the tag names a checkpoint that is split, too,
	// what that has is not moved again. lithify alone restores such an image.
	Split bool
	// TCPEstablished dumps open TCP connections, and FileLocks locks of files: without it
	// CRIU refuses them.
	TCPEstablished, FileLocks bool
	// Key signs the image; nil: nobody does.
	Key ed25519.PrivateKey
	// Recipients are for whom the checkpoint is encrypted; none: it is not. One that is split
	// shares nothing with others then, and all of it is moved.
	Recipients encrypt.Recipients
	// TempDir has room for the container's memory, twice, and containerd sees it under
	// the same name. Default os.TempDir().
	TempDir string
	// Fallback reads what containerd has not of the base image; nil: that is an error.
	Fallback func(image string) (convert.Source, error)
	// Frozen hears how long the container stood still.
	Frozen func(time.Duration)
	// Quiet, if set, hears before a phase in which nothing is heard, and end after it:
	// CRIU writes memory.
	Quiet func() (end func())
	// Progress hears how many bytes have been moved. It is called from any goroutine and
	// returns at once.
	Progress func(n int64)
}

// Result tells what was published.
type Result struct {
	Container  string             `json:"container"`
	Target     string             `json:"target"`
	Descriptor ocispec.Descriptor `json:"descriptor"`
	Base       string             `json:"base"` // with its digest
	Processes  int                `json:"processes"`
	Memory     int64              `json:"memory"` // bytes of pages
	New        int64              `json:"new"`    // bytes of layers that no earlier checkpoint had
	Frozen     time.Duration      `json:"frozen"`
	Stopped    bool               `json:"stopped,omitempty"`
}

// Container makes a checkpoint image of c and publishes it to dst. The container stands
// still while memory and files are read, and runs on also if this process dies then.
//
// What cannot be checkpointed is an errdefs.ErrFailedPrecondition. On any error nothing is
// published, and the container runs on.
func Container(ctx context.Context, c *stack.Container, dst convert.Target, o Options) (_ *Result, err error) {
	ctx, span := tracer.Start(ctx, "checkpoint container")
	span.SetAttributes(attribute.String("lithify.container", c.ID()), attribute.String("lithify.target", dst.Name()))
	defer func() {
		if err != nil {
			span.RecordError(err)
		}
		span.End()
	}()
	if err := canDump(ctx, c); err != nil {
		return nil, err
	}
	base, err := commit.FindBase(ctx, c, o.Fallback)
	if err != nil {
		return nil, err
	}
	dir, err := tempDir(o.TempDir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p, err := o.pause(ctx, func() (func() error, error) { return o.dump(ctx, c, dir) })
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.thaw()) }()
	cp, err := describe(ctx, c, base, p.began)
	if err != nil {
		return nil, err
	}
	r, err := o.publish(ctx, dst, cp, dir)
	if err != nil {
		return nil, err
	}
	r.Container, r.Frozen, r.Stopped = c.ID(), p.took, o.Stop
	if o.Stop {
		return r, kill(ctx, c)
	}
	return r, nil
}

// pause is how long containers stood still, and thaw has them go on if they still do.
type pause struct {
	began time.Time
	took  time.Duration
	thaw  func() error
}

// pause has dump freeze containers and read them, again where CRIU could not stop a process.
// Unless they are to be stopped they go on then.
func (o Options) pause(ctx context.Context, dump func() (thaw func() error, err error)) (p pause, err error) {
	for attempt := 1; ; attempt++ {
		p.began = time.Now()
		if p.thaw, err = dump(); err == nil {
			break
		}
		if attempt == maxDumps || !errors.Is(err, errNotSeized) || !rest(ctx, breath) {
			return p, err
		}
	}
	if !o.Stop {
		if err := p.thaw(); err != nil {
			return p, errors.Join(err, p.thaw())
		}
	}
	p.took = time.Since(p.began)
	if o.Frozen != nil {
		o.Frozen(p.took)
	}
	return p, nil
}

// rest waits, and reports whether that was all that happened.
func rest(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// canDump refuses what CRIU or a later restore would refuse.
func canDump(ctx context.Context, c *stack.Container) error {
	refuse := func(why string) error {
		return fmt.Errorf("container %s %s: %w", c.ID(), why, errdefs.ErrFailedPrecondition)
	}
	task, err := c.Task(ctx, nil)
	if errdefs.IsNotFound(err) {
		return refuse("does not run: it has no memory to be checkpointed")
	}
	if err != nil {
		return fmt.Errorf("task of container %s: %w", c.ID(), err)
	}
	status, err := task.Status(ctx)
	if err != nil {
		return fmt.Errorf("status of container %s: %w", c.ID(), err)
	}
	spec, err := c.Spec(ctx)
	if err != nil {
		return fmt.Errorf("spec of container %s: %w", c.ID(), err)
	}
	switch {
	case status.Status != client.Running && status.Status != client.Paused:
		return refuse(fmt.Sprintf("is %s: it has no memory to be checkpointed", status.Status))
	case spec.Process != nil && spec.Process.Terminal:
		return refuse("has a terminal, which no restore could give back to it")
	}
	return nil
}

// stopTimeout bounds the end of a container that was killed.
const stopTimeout = 30 * time.Second

// kill ends a container that stands still, which SIGKILL ends all the same, and waits for
// that: there is nothing to be thawed then.
func kill(ctx context.Context, c *stack.Container) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	task, err := c.Task(ctx, nil)
	if err == nil {
		err = client.WithProcessKill(ctx, task)
	}
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("stop container %s, of which the image is published: %w", c.ID(), err)
	}
	return nil
}
