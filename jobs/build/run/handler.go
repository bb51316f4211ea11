// Package run handles jobs of the kind build. `lithify build` calls the same handler
// without a queue.
package run

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/build"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/provenance"
	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/jobs"
	buildjob "github.com/lithify/lithify/jobs/build"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
)

// Builder is what signed provenance says of who has built. Which pool that was its key tells.
const Builder = "https://github.com/lithify/lithify/build"

// Handler builds with a buildkitd. How what was built is converted and published is
// Convert's to say, whose SigningKey also signs the provenance that a job asks for.
type Handler struct {
	Convert convertrun.Handler
	Engine  build.Engine
	// Secret and SSH give what a job names by an ID, in buildctl's words. Where they are
	// nil there is none.
	Secret, SSH func(id string) (string, error)
	// Status hears what BuildKit says of its steps, and may block; Built hears of the end of
	// the build, before the conversion begins.
	Status func(*client.SolveStatus)
	Built  func(*build.Result)
}

// Run builds one image, converts it and moves the tag. Its errors have an errdefs kind
// each, as those of convert's Run; what fails in the build is a *build.Error.
func (h Handler) Run(ctx context.Context, a buildjob.Args) (*convert.Result, error) {
	r, err := h.run(ctx, a)
	return r, convertrun.WithKind(err)
}

func (h Handler) run(ctx context.Context, a buildjob.Args) (*convert.Result, error) {
	built, err := h.build(ctx, a)
	if err != nil {
		return nil, err
	}
	dst, opts, err := h.Convert.Output(ctx, a.Output)
	if err != nil {
		return nil, err
	}
	repository, err := repositoryOf(a)
	if err != nil {
		return nil, err
	}
	src, err := h.Convert.Open(repository+"@"+built.Digest.String(), a.Insecure)
	if err != nil {
		return nil, err
	}
	opts.AllPlatforms = true // that were built
	opts.InPlace = true      // the tag may name what was built before, which is the same
	return convert.Image(ctx, src, dst, opts)
}

func repositoryOf(a buildjob.Args) (string, error) { return registry.RepositoryName(a.Target) }

// build builds and pushes.
func (h Handler) build(ctx context.Context, a buildjob.Args) (desc ocispec.Descriptor, err error) {
	dst, _, err := h.Convert.Output(ctx, a.Output)
	if err != nil {
		return desc, err
	}
	// A registry that does not answer, or lets nobody in, is found out before the work.
	if _, err := dst.Head(ctx); err != nil && !errors.Is(err, convert.ErrNotFound) {
		return desc, err
	}
	r, err := h.request(a)
	if err != nil {
		return desc, err
	}
	if a.Archive != nil {
		archive, err := h.fetch(ctx, a, blob(a.Archive))
		if err != nil {
			return desc, err
		}
		defer archive.Close()
		r.Context, r.Archive = a.Archive.Digest.String(), archive
	}
	defer h.watch(ctx)()
	built, err := h.Engine.Build(ctx, r, h.Status)
	if err != nil {
		return desc, err
	}
	if key := h.Convert.SigningKey; key != nil {
		if err := provenance.Sign(ctx, dst, built.Descriptor, key); err != nil {
			return desc, err
		}
	}
	if h.Built != nil {
		h.Built(built)
	}
	return built.Descriptor, nil
}

// beat is well below the silence that a worker allows.
const beat = 10 * time.Second

// watch tells the job that it lives as long as the daemon answers: a step may say nothing
// for hours.
func (h Handler) watch(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(beat)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if h.Engine.Ping(ctx) == nil {
				jobs.Alive(ctx, 0)
			}
		}
	})
	return func() {
		cancel()
		watching.Wait()
	}
}

func (h Handler) request(a buildjob.Args) (r build.Request, err error) {
	r = build.Request{
		Context:     a.Context,
		Dockerfile:  a.Dockerfile,
		Target:      a.Stage,
		Args:        a.BuildArgs,
		Labels:      a.Labels,
		Platforms:   a.Platforms,
		NoCache:     a.NoCache,
		Network:     a.Network,
		CacheFrom:   a.CacheFrom,
		CacheTo:     a.CacheTo,
		Attest:      a.Attest,
		Epoch:       a.Epoch,
		Compression: a.Compression,
		Insecure:    a.Insecure,
	}
	if h.Convert.SigningKey != nil {
		r.Builder = Builder
	}
	if r.Repository, err = repositoryOf(a); err != nil {
		return r, err
	}
	if r.Secrets, err = named("secret", a.Secrets, h.Secret); err != nil {
		return r, err
	}
	r.SSH, err = named("ssh", a.SSH, h.SSH)
	return r, err
}

func named(what string, ids []string, find func(string) (string, error)) (found []string, err error) {
	for _, id := range ids {
		if find == nil {
			return nil, fmt.Errorf("%s %s: %w here", what, id, errdefs.ErrNotFound)
		}
		s, err := find(id)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", what, id, err)
		}
		found = append(found, s)
	}
	return found, nil
}
