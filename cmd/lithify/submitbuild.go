package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/lithify/lithify/build"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/jobs"
	buildjob "github.com/lithify/lithify/jobs/build"
	buildrun "github.com/lithify/lithify/jobs/build/run"
	convertjob "github.com/lithify/lithify/jobs/convert"
	"github.com/lithify/lithify/jobs/convert/run"
)

func (a *app) submitBuildCommand() *cobra.Command {
	var f buildFlags
	var s submission
	cmd := &cobra.Command{
		Use:   "build CONTEXT -t DST",
		Short: "Build an image from a Dockerfile in the pool",
		Long: `Build an image in the pool, on a worker that was started with --buildkit or
--buildkit-root. See lithify build.

A CONTEXT of this machine is pushed to DST's repository first, as a blob without a tag, without
what .dockerignore leaves out. Secrets and SSH agents are the worker's, named by their IDs.

stdout gets the job's ID; with --wait it gets DST@DIGEST, as from lithify build.`,
		Example: `  lithify submit build --wait . -t registry.example.com/app:1 --secret npm
  lithify submit build --wait https://github.com/org/app.git#v1 -t DST --spread --platform linux/amd64,linux/arm64`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			job, err := f.args(args[0], a.err)
			if err != nil {
				return err
			}
			if err := job.CheckPool(); err != nil {
				return usageError{err}
			}
			if f.metadataFile != "" && !s.wait {
				return usageError{errors.New("--metadata-file needs --wait: there is nothing to tell before the image is there")}
			}
			s.show = (&buildFollower{out: a.err, mode: f.progressMode}).show
			s.done = func(r *convert.Result) error { return writeMetadata(f.metadataFile, map[string]any{}, r) }
			return a.submit(cmd.Context(), &s, func() (jobs.Args, error) { return sendContext(cmd.Context(), job) })
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().StringSliceVar(&f.job.Secrets, "secret", nil, "ID of a secret that the worker has, for RUN --mount=type=secret; may be repeated")
	cmd.Flags().BoolVar(&f.job.Spread, "spread", false, "build each platform on a worker of that platform")
	cmd.Flags().StringVar(&f.job.LedgerRepo, "ledger-repo", convertjob.DefaultLedgerRepo, "repository of DST's registry in which converted layers are found again; empty for none")
	s.add(cmd.Flags())
	return cmd
}

// sendContext makes a job that any worker may run.
func sendContext(ctx context.Context, job buildjob.Args) (jobs.Args, error) {
	if build.IsGit(job.Context) {
		return job, nil
	}
	h := buildrun.Handler{Convert: run.Handler{AllowFiles: true}}
	return h.Send(ctx, job)
}
