package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"runtime"
	"time"

	"github.com/containerd/errdefs"
	"github.com/lithify/lithify/convert/preflight"
	"github.com/lithify/lithify/flagfile"
	"github.com/lithify/lithify/jobs/all"
	"github.com/lithify/lithify/jobs/all/run"
	buildrun "github.com/lithify/lithify/jobs/build/run"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
	restorerun "github.com/lithify/lithify/jobs/restore/run"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/natsd"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
	"github.com/lithify/lithify/telemetry"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

func (a *app) serveCommand() *cobra.Command {
	var s server
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a whole pool in this process: queue, scheduler and worker",
		Long: `Run a pool for this user on this machine: an embedded NATS server that stores on
disk and listens on a loopback port, a scheduler and a worker. lithify submit
finds it by a context file that only this user can read.

One line on stdout says that the pool is up; with --http one before it says where the
web page is, and which file has the key that it asks for. An interrupt lets running jobs
finish for a while, then hands them back.`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.serve(cmd.Context(), s) },
	}
	fs := cmd.Flags()
	fs.StringVar(&s.dir, "dir", "", "where the queue is stored (default in the user's cache directory)")
	fs.StringVar(&s.tempDir, "temp-dir", "", "where layers lie until they are pushed (default $TMPDIR)")
	fs.IntVar(&s.slots, "slots", runtime.GOMAXPROCS(0), "jobs at a time; 0 runs no worker here")
	fs.StringVar(&s.containerd, "containerd", "", "where a containerd listens whose containers may be committed and checkpointed; with none no such jobs are taken")
	more := flag.NewFlagSet("", flag.ContinueOnError)
	s.builds.AddFlags(more)
	s.restores.AddFlags(more)
	fs.AddGoFlagSet(more)
	fs.StringVar(&s.http, "http", "", "serve the web page, too, at this address of this machine, for example 127.0.0.1:8080")
	fs.DurationVar(&s.keep, "keep", scheduler.DefaultKeep, "how long jobs that ended are remembered")
	file := flagfile.AddPFlag(fs, "lithify-serve")
	cmd.PersistentPreRunE = func(cmd *cobra.Command, args []string) error {
		outdated, err := file.Load() // before the log is set up, of which it says something, too
		if errdefs.IsInvalidArgument(err) {
			return usageError{err}
		}
		if err == nil {
			err = a.setup(cmd, args)
		}
		if err == nil {
			flagfile.Log(cmd.Context(), a.log, outdated)
		}
		return err
	}
	return cmd
}

type server struct {
	dir, tempDir string
	containerd   string
	http         string
	builds       buildrun.Config
	restores     restorerun.Config
	slots        int
	keep         time.Duration
}

func (a *app) serve(ctx context.Context, s server) (err error) {
	if s.dir == "" {
		if s.dir, err = natsd.DefaultDir(); err != nil {
			return err
		}
	}
	nats, err := natsd.Start(natsd.Config{Dir: s.dir, Version: telemetry.Version(), Log: a.log})
	if err != nil {
		return err
	}
	defer func() {
		if serr := nats.Stop(); err == nil {
			err = serr
		}
	}()
	cfg := nats.Client()
	cfg.Log = a.log
	client, err := queue.Connect(ctx, cfg)
	if err != nil {
		return err
	}
	defer client.Close()
	if s.slots > 0 {
		preflight.Log(ctx, a.log, preflight.Options{Dir: s.tempDir, Containerd: s.containerd})
	}
	handlers, err := a.handlers(s, client)
	if err != nil {
		return err
	}
	wcfg := worker.Config{Slots: s.slots, Version: telemetry.Version(), Log: a.log}
	if s.builds.Enabled() {
		var stop func() error
		if handlers.Build, wcfg.More, stop, err = s.builds.Start(ctx, a.log); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	w, err := worker.New(client, handlers.Mux(), wcfg)
	if err != nil {
		return err
	}
	if err := client.Setup(ctx, 1); err != nil { // whoever reads the line below may ask at once
		return err
	}
	web, err := a.webPage(ctx, s, client)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "pool up at %s with %d slots, stored in %s\n", nats.URL(), s.slots, s.dir)
	eg, ctx := errgroup.WithContext(ctx)
	eg.Go(func() error { return web(ctx) })
	eg.Go(func() error {
		cfg := scheduler.Config{Keep: s.keep, Version: telemetry.Version(), Log: a.log}
		return scheduler.New(client, all.Validators(), cfg).Run(ctx)
	})
	if s.slots > 0 {
		eg.Go(func() error { return w.Run(ctx) })
	}
	return eg.Wait()
}

func (a *app) handlers(s server, client *queue.Client) (run.Handlers, error) {
	key, err := convertrun.EnsureKey(filepath.Join(s.dir, "ledger.pem"))
	if err != nil {
		return run.Handlers{}, err
	}
	limiter, err := client.Limiter()
	if err != nil {
		return run.Handlers{}, err
	}
	h := convertrun.Handler{AllowFiles: true, TempDir: s.tempDir, Limiter: limiter, Log: a.log}
	h.SignWith(key)
	restore, err := s.restores.Handler(s.containerd)
	return run.Handlers{Convert: h, Containerd: s.containerd, Restore: restore}, err
}
