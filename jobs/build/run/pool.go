package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/build"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/jobs"
	buildjob "github.com/lithify/lithify/jobs/build"
	convertjob "github.com/lithify/lithify/jobs/convert"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
)

// Register makes h the handler of its kind, on a worker that has a buildkitd.
func (h Handler) Register(m *jobs.Mux) {
	jobs.Handle(m, func(ctx context.Context, a buildjob.Args) (any, error) {
		h := h
		h.Status = logTo(ctx)
		r, err := h.attempt(ctx, a)
		logExcerpt(ctx, err)
		jobs.Log(ctx, []byte("{}\n")) // there is no more of this attempt
		return r, classify(convertrun.WithKind(err))
	})
}

// classify: a Dockerfile that is wrong, or a context or a secret that is not there, will
// not change by itself.
func classify(err error) error {
	if failed, ok := errors.AsType[*build.Error](err); ok {
		if errdefs.IsInvalidArgument(failed) {
			return jobs.Permanent(err)
		}
		return err
	}
	return convertrun.Classify(err)
}

// Part is the result of a job that is part of a build.
type Part struct {
	Descriptor ocispec.Descriptor `json:"descriptor"`
}

// attempt is one of a job of a pool. What comes after the build is for others: the
// conversion is a job, whose result is the build's, and so is each platform of a build
// that is spread.
func (h Handler) attempt(ctx context.Context, a buildjob.Args) (any, error) {
	if err := h.checkPool(a); err != nil {
		return nil, jobs.Permanent(err)
	}
	if child, ok := converted(ctx); ok {
		var r convert.Result
		if err := child.Decode(&r); err != nil {
			return nil, jobs.Permanent(fmt.Errorf("convert what was built: %w", err))
		}
		return &r, nil
	}
	if a.Spread {
		index, err := h.spread(ctx, a)
		if err != nil {
			return nil, err
		}
		return nil, convertLater(ctx, a, index)
	}
	built, err := h.build(ctx, a)
	if err != nil {
		return nil, err
	}
	if a.Part {
		return Part{built}, nil
	}
	return nil, convertLater(ctx, a, built)
}

func (h Handler) checkPool(a buildjob.Args) error {
	if err := a.CheckPool(); err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	if a.Context != "" && !build.IsGit(a.Context) {
		return h.Convert.CheckFiles(a, "oci:"+a.Context) // a path is as good as one of a layout
	}
	return nil
}

// converted is the job that converted what this one built, once it has ended.
func converted(ctx context.Context) (jobs.Child, bool) {
	for _, c := range jobs.Children(ctx) {
		if c.Job.Kind == convertjob.Kind {
			return c, true
		}
	}
	return jobs.Child{}, false
}

// convertLater has the built image converted, and the tag moved, by a job.
func convertLater(ctx context.Context, a buildjob.Args, built ocispec.Descriptor) error {
	repository, err := repositoryOf(a)
	if err != nil {
		return err
	}
	jobs.Event(ctx, "image built", "digest", built.Digest)
	child, err := jobs.New(convertjob.Args{
		Source:       repository + "@" + built.Digest.String(),
		SourceDigest: built.Digest,
		AllPlatforms: true,
		InPlace:      true, // the tag may name what was built before, which is the same
		Output:       a.Output,
	}, remaining(ctx))
	if err != nil {
		return jobs.Permanent(err)
	}
	return jobs.Await(child)
}

// remaining gives a child the time that is left.
func remaining(ctx context.Context) (o jobs.Options) {
	if deadline, ok := ctx.Deadline(); ok {
		o.Timeout = max(time.Until(deadline), time.Second)
	}
	return o
}

// spread has each platform built by a worker of its own and joins what they pushed in
// one index, if there are several.
func (h Handler) spread(ctx context.Context, a buildjob.Args) (index ocispec.Descriptor, err error) {
	parts, err := builtParts(ctx, a)
	if err != nil {
		return index, err
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	joined := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for i, part := range parts {
		platform, err := platforms.Parse(a.Platforms[i])
		if err != nil {
			return index, err
		}
		part.Platform = &platform
		manifests, err := h.manifests(ctx, a, part)
		if err != nil {
			return index, err
		}
		joined.Manifests = append(joined.Manifests, manifests...)
	}
	raw, err := json.Marshal(joined)
	if err != nil {
		return index, err
	}
	dst, _, err := h.Convert.Output(ctx, a.Output)
	if err != nil {
		return index, err
	}
	index = ocispec.Descriptor{MediaType: joined.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	return index, dst.PutManifest(ctx, index, raw)
}

// builtParts are what was built, in the order of the platforms; until all are, the error
// waits for them.
func builtParts(ctx context.Context, a buildjob.Args) ([]ocispec.Descriptor, error) {
	done := map[string]Part{}
	for _, c := range jobs.Children(ctx) {
		args, err := jobs.DecodeArgs[buildjob.Args](c.Job.Args)
		if err != nil {
			return nil, jobs.Permanent(err)
		}
		var part Part
		if err := c.Decode(&part); err != nil {
			return nil, jobs.Permanent(fmt.Errorf("build for %s: %w", args.Platforms[0], err))
		}
		done[args.Platforms[0]] = part
	}
	var parts []ocispec.Descriptor
	var missing []jobs.Job
	for _, p := range a.Platforms {
		if part, ok := done[p]; ok {
			parts = append(parts, part.Descriptor)
			continue
		}
		child, err := partJob(ctx, a, p)
		if err != nil {
			return nil, jobs.Permanent(err)
		}
		jobs.Event(ctx, "platform is built by a job", "platform", p, "job", child.ID)
		missing = append(missing, child)
	}
	if len(missing) > 0 {
		return nil, jobs.Await(missing...)
	}
	return parts, nil
}

func partJob(ctx context.Context, a buildjob.Args, platform string) (jobs.Job, error) {
	p, err := platforms.Parse(platform)
	if err != nil {
		return jobs.Job{}, err
	}
	a.Platforms, a.Spread, a.Part = []string{platform}, false, true
	o := remaining(ctx)
	o.Class = jobs.Class{Kind: buildjob.Kind, OS: p.OS, Arch: p.Architecture, Feature: jobs.Any}
	return jobs.New(a, o)
}

// maxIndex is far above the index of an image and its attestations.
const maxIndex = 1 << 20

// manifests are those of a part: one, or those of an index that has attestations, too.
func (h Handler) manifests(ctx context.Context, a buildjob.Args, part ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	if part.MediaType != ocispec.MediaTypeImageIndex {
		return []ocispec.Descriptor{part}, nil
	}
	if part.Size > maxIndex {
		return nil, fmt.Errorf("index %s has %d bytes, more than %d: %w", part.Digest, part.Size, maxIndex, errdefs.ErrInvalidArgument)
	}
	rc, err := h.fetch(ctx, a, part)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	raw, err := io.ReadAll(rc)
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("index %s: %w", part.Digest, err)
	}
	return index.Manifests, nil
}

// logTo has people see what BuildKit says: a line of JSON for each client.SolveStatus.
func logTo(ctx context.Context) func(*client.SolveStatus) {
	return func(s *client.SolveStatus) {
		if line, err := json.Marshal(s); err == nil { // such a struct always encodes
			jobs.Log(ctx, append(line, '\n'))
		}
	}
}

// logExcerpt shows where in the Dockerfile a build failed, as a step of its own.
func logExcerpt(ctx context.Context, err error) {
	failed, ok := errors.AsType[*build.Error](err)
	if !ok || failed.Excerpt == "" {
		return
	}
	now := time.Now()
	step := &client.Vertex{Digest: digest.FromString(failed.Excerpt), Name: "where it failed", Started: &now, Completed: &now}
	logTo(ctx)(&client.SolveStatus{
		Vertexes: []*client.Vertex{step},
		Logs:     []*client.VertexLog{{Vertex: step.Digest, Stream: 1, Data: []byte(failed.Excerpt), Timestamp: now}},
	})
}
