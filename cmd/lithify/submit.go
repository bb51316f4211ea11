package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"runtime"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/jobs"
	convertjob "github.com/lithify/lithify/jobs/convert"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
	"github.com/lithify/lithify/queue"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// poolFlags say where the pool is. The same names serve every binary.
type poolFlags struct{ queue.Config }

func (p *poolFlags) add(fs *pflag.FlagSet) {
	std := flag.NewFlagSet("", flag.ContinueOnError)
	p.AddFlags(std)
	fs.AddGoFlagSet(std)
}

// withPool connects to the pool for one call of f.
func (a *app) withPool(ctx context.Context, p *poolFlags, f func(*queue.Client) error) error {
	p.Log, p.Name = a.log, "lithify"
	client, err := queue.Connect(ctx, p.Config)
	if errdefs.IsInvalidArgument(err) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.CheckAccount(ctx); err != nil {
		return err
	}
	return f(client)
}

func (a *app) submitCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "submit",
		Short: "Have the pool do it",
		Long:  "Submit a job to the pool. The verbs take the flags they take without a pool.",
	}
	group(cmd)
	cmd.AddCommand(a.submitConvertCommand(), a.submitCommitCommand(), a.submitBuildCommand(), a.submitCheckpointCommand(), a.submitRestoreCommand(), a.submitRolloutCommand(), a.submitPruneCommand())
	return cmd
}

func (a *app) submitConvertCommand() *cobra.Command {
	var f convertFlags
	var s submission
	cmd := &cobra.Command{
		Use:   "convert SRC DST",
		Short: "Convert an image in the pool",
		Long: `Convert an image in the pool. SRC is resolved to a digest now: what the job
converts is what the tag names at this moment.

stdout gets the job's ID; with --wait it gets DST@DIGEST, as from lithify convert.`,
		Example: `  lithify submit convert --wait docker.io/library/debian:12 registry.example.com/debian:12-erofs`,
		Args:    exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.submit(cmd.Context(), &s, func() (jobs.Args, error) { return f.poolArgs(cmd.Context(), args[0], args[1]) })
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().StringVar(&f.job.LedgerRepo, "ledger-repo", convertjob.DefaultLedgerRepo, "repository of DST's registry in which converted layers are found again; empty for none")
	s.add(cmd.Flags())
	return cmd
}

// poolArgs are the args of a job that any worker may run. The source is resolved to
// a digest now.
func (f *convertFlags) poolArgs(ctx context.Context, src, dst string) (job convertjob.Args, err error) {
	if src, err = registry.Absolute(src); err != nil { // a worker has another working directory
		return job, usageError{err}
	}
	if dst, err = registry.Absolute(dst); err != nil {
		return job, usageError{err}
	}
	if job, err = f.args(src, dst); err != nil {
		return job, err
	}
	root, err := convertrun.Handler{}.Resolve(ctx, job)
	if err != nil {
		return job, err
	}
	job.SourceDigest = root.Digest
	if images.IsIndexType(root.MediaType) && len(job.Platforms) == 0 && !job.AllPlatforms {
		job.Platforms = []string{"linux/" + runtime.GOARCH} // this machine's, whichever worker takes the job
	}
	return job, nil
}

// submission holds the flags of every submit command.
type submission struct {
	pool    poolFlags
	api     apiFlags
	wait    bool
	key     string
	timeout time.Duration
	share   shareFlags
	delay   time.Duration
	at      string

	// show shows how a job goes until it ends, if not by its history; done has its result.
	show func(context.Context, pool, jobs.ID) error
	done func(*convert.Result) error
	// result prints the result of a job that publishes no image; nil: it publishes one.
	result func(json.RawMessage) error
}

// shareFlags say which share of the pool a job gets.
type shareFlags struct{ priority, tenant string }

func (s *shareFlags) add(fs *pflag.FlagSet, priority jobs.Priority) {
	fs.StringVar(&s.priority, "priority", string(priority), "interactive, or bulk: after all that is interactive")
	fs.StringVar(&s.tenant, "tenant", jobs.DefaultTenant, "whose share of the pool it uses")
}

// options are those of the job, from now on.
func (s *submission) options(now time.Time) (jobs.Options, error) {
	o := jobs.Options{IdempotencyKey: s.key, Timeout: s.timeout, Priority: jobs.Priority(s.share.priority), Tenant: s.share.tenant}
	switch {
	case s.timeout <= 0:
		return o, fmt.Errorf("--timeout %v is not above zero", s.timeout)
	case s.delay < 0:
		return o, fmt.Errorf("--delay %v is below zero", s.delay)
	case s.at != "" && s.delay > 0:
		return o, errors.New("--at and --delay exclude each other")
	case s.at != "":
		at, err := time.Parse(time.RFC3339, s.at)
		if err != nil {
			return o, fmt.Errorf("--at %q: want a time as 2027-01-31T03:00:00Z", s.at)
		}
		o.NotBefore = at
	case s.delay > 0:
		o.NotBefore = now.Add(s.delay)
	}
	return o, nil
}

func (s *submission) add(fs *pflag.FlagSet) {
	s.pool.add(fs)
	s.api.add(fs)
	fs.BoolVar(&s.wait, "wait", false, "wait for the job to end and print its result")
	fs.StringVar(&s.key, "idempotency-key", "", "submissions with the same key are one job")
	fs.DurationVar(&s.timeout, "timeout", jobs.DefaultTimeout, "give the job up after this time, counted from when it may run")
	fs.DurationVar(&s.delay, "delay", 0, "do not run it before this time has passed")
	fs.StringVar(&s.at, "at", "", "do not run it before this time, as 2027-01-31T03:00:00Z")
	s.share.add(fs, jobs.Interactive)
}

// submit finds the pool before it has args looked for.
func (a *app) submit(ctx context.Context, s *submission, args func() (jobs.Args, error)) error {
	return a.submitTo(ctx, s, func(pool) (jobs.Args, error) { return args() })
}

// submitTo is submit of a job for which the pool is asked something first.
func (a *app) submitTo(ctx context.Context, s *submission, args func(pool) (jobs.Args, error)) error {
	o, err := s.options(time.Now())
	if err != nil {
		return usageError{err}
	}
	return a.withPoolOrAPI(ctx, s, func(client pool) error {
		args, err := args(client)
		if err != nil {
			return err
		}
		job, err := jobs.New(args, o)
		if err != nil {
			return usageError{err}
		}
		return a.send(ctx, client, job, s)
	})
}

// withPoolOrAPI calls f with the pool that s names, by NATS or by its API.
func (a *app) withPoolOrAPI(ctx context.Context, s *submission, f func(pool) error) error {
	if s.api.url == "" {
		return a.withPool(ctx, &s.pool, func(client *queue.Client) error { return f(client) })
	}
	client, err := s.api.client()
	if err != nil {
		return err
	}
	return f(client)
}

func (a *app) send(ctx context.Context, client pool, job jobs.Job, s *submission) error {
	st, err := client.Submit(ctx, job)
	if err != nil {
		return err
	}
	if !s.wait {
		if a.output == "json" {
			return a.printJSON(st)
		}
		_, err := fmt.Fprintln(a.out, st.ID)
		return err
	}
	fmt.Fprintln(a.err, "job", st.ID)
	return a.follow(ctx, client, st.ID, s)
}

// follow shows how a job goes on stderr until it ends, and its result on stdout.
func (a *app) follow(ctx context.Context, client pool, id jobs.ID, s *submission) error {
	show := s.show
	if show == nil {
		show = a.history
	}
	if err := show(ctx, client, id); err != nil {
		return err
	}
	st, err := client.Wait(ctx, id)
	if err != nil {
		return err
	}
	if err := st.Err(); err != nil {
		return err
	}
	if s.result != nil {
		return s.result(st.Result)
	}
	var r convert.Result
	if err := json.Unmarshal(st.Result, &r); err != nil {
		return fmt.Errorf("result of job %s: %w", id, err)
	}
	if s.done != nil {
		if err := s.done(&r); err != nil {
			return err
		}
	}
	return a.printResult(&r)
}

// history shows a job's events as they come.
func (a *app) history(ctx context.Context, client pool, id jobs.ID) error {
	for e, err := range client.Watch(ctx, id, 0) {
		if err != nil {
			return err
		}
		fmt.Fprintln(a.err, eventLine(e))
	}
	return nil
}

func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
