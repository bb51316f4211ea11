package run

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/jobs"
	convertjob "github.com/lithify/lithify/jobs/convert"
	layerjob "github.com/lithify/lithify/jobs/layer"
	"github.com/opencontainers/go-digest"
)

// Layer converts one layer into the ledger: a job of the kind layer.
func (h Handler) Layer(ctx context.Context, a layerjob.Args) (*convert.LayerResult, error) {
	var t convert.LayerTask
	if err := json.Unmarshal(a.Job, &t.LayerJob); err != nil {
		return nil, jobs.Permanent(fmt.Errorf("layer job: %w", err))
	}
	t.Size = a.Size
	src, err := registry.Open(a.Source+"@"+t.Source.String(), h.ends(a.Insecure))
	if err != nil {
		return nil, err
	}
	r, err := convert.Layer(ctx, src, t, convert.Options{
		Ledger:   h.ledger(a.Ledger, a.Insecure),
		Limits:   limits(a.Limits),
		Verify:   convert.Verify(a.Verify),
		TempDir:  h.TempDir,
		Log:      h.Log,
		Progress: report(ctx, h.Progress),
		Quiet:    jobs.Quiet,
	})
	return r, WithKind(err)
}

// elsewhere makes layer jobs of an image's layers and waits for them. It is nil
// where the handler keeps them to itself.
func (h Handler) elsewhere(a convertjob.Args, ledger string) convert.Elsewhere {
	ref, err := name.ParseReference(convertjob.Unpinned(a.Source))
	if err != nil || convertjob.IsFile(a.Source) || !h.Spread {
		return nil
	}
	return func(ctx context.Context, missing []convert.LayerTask) (map[digest.Digest]erofs.Needs, error) {
		needs := map[digest.Digest]erofs.Needs{}
		var await []jobs.Job
		for _, t := range missing {
			j, err := layerJob(ctx, a, t, ref.Context().Name(), ledger)
			if err != nil {
				return nil, err
			}
			child, ok := jobs.Children(ctx)[j.ID]
			if !ok || opens(child.Record) {
				await = append(await, j)
				continue
			}
			var r convert.LayerResult
			switch err := child.Decode(&r); {
			case err == nil && r.Needs != nil:
				needs[t.Key()] = *r.Needs
			// One that failed otherwise says nothing of this image: it may have been read
			// from another repository, under other limits, or have found no place in the
			// ledger. The image converts it itself, and has its own error if that fails too.
			case err != nil && child.Record.Quarantined():
				return nil, jobs.Permanent(fmt.Errorf("layer %s: %w", t.Source, err))
			case err != nil && t.BlockCIM() && runtime.GOOS != "windows":
				return nil, err // which is all that can be said of it here
			}
		}
		if len(await) > 0 {
			return nil, jobs.Await(await...)
		}
		return needs, nil
	}
}

func layerJob(ctx context.Context, a convertjob.Args, t convert.LayerTask, source, ledger string) (jobs.Job, error) {
	job, err := json.Marshal(t.LayerJob)
	if err != nil {
		return jobs.Job{}, err
	}
	var o jobs.Options
	if t.BlockCIM() {
		o.Class = layerjob.BlockCIM
	}
	if deadline, ok := ctx.Deadline(); ok {
		o.Timeout = max(time.Until(deadline), time.Second)
	}
	return jobs.New(layerjob.Args{Job: job, Ledger: ledger, Source: source, Blob: t.Source, Size: t.Size, Insecure: a.Insecure, Limits: a.Limits, Verify: a.Verify}, o)
}

// opens reports whether a layer job has to be submitted, again perhaps: it is on
// its way, or ended for a reason of those who asked first.
func opens(r jobs.Record) bool {
	late := r.Failure != nil && r.Failure.Kind == jobs.KindDeadlineExceeded
	return !r.State.Ended() || r.State == jobs.Cancelled || r.State == jobs.Failed && late
}
