// Command lithify-worker runs the jobs of a pool.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/lithify/lithify/cimfs"
	"github.com/lithify/lithify/convert/preflight"
	"github.com/lithify/lithify/convert/stack"
	"github.com/lithify/lithify/flagfile"
	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/jobs/all/run"
	layerrun "github.com/lithify/lithify/jobs/layer/run"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/worker"
	"github.com/lithify/lithify/telemetry"
)

func main() {
	stack.RunGuard()
	cimfs.RunWriter()
	if err := start(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "lithify-worker:", err)
		os.Exit(1)
	}
}

func start(args []string) error {
	if len(args) > 0 && args[0] == "service" {
		return service(args[1:])
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	// On Windows Ctrl-C and Ctrl-Break are os.Interrupt; SIGTERM is a console that is closed,
	// a logoff and a shutdown, after which Windows waits for some seconds.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	return o.serve(ctx, os.Stderr)
}

// serve works until ctx is done, and logs to w.
func (o *options) serve(ctx context.Context, w io.Writer) (err error) {
	shutdown, log, err := telemetry.Setup(ctx, "lithify-worker", telemetry.Version(), telemetry.Options{Verbose: o.verbose, Writer: w})
	if err != nil {
		return err
	}
	defer telemetry.Flush(ctx, shutdown)
	flagfile.Log(ctx, log, o.outdated)
	o.queue.Name, o.queue.Log, o.worker.Log, o.convert.Log, o.worker.Version = "lithify-worker", log, log, log, telemetry.Version()
	client, err := queue.Connect(ctx, o.queue)
	if err != nil {
		return unlessStopped(ctx, log, err)
	}
	defer client.Close()
	if o.convert.Limiter, err = client.Limiter(); err != nil {
		return err
	}
	preflight.Log(ctx, log, preflight.Options{Dir: o.convert.TempDir, Containerd: o.containerd})
	if o.containerd != "" {
		thaw(ctx, log, o.containerd)
	}
	handlers := run.Handlers{Convert: o.convert, Containerd: o.containerd}
	if handlers.Restore, err = o.restore.Handler(o.containerd); err != nil {
		return err
	}
	if o.build.Enabled() {
		var stop func() error
		var more []jobs.Class
		if handlers.Build, more, stop, err = o.build.Start(ctx, log); err != nil {
			return unlessStopped(ctx, log, err)
		}
		o.worker.More = append(o.worker.More, more...)
		defer func() { err = errors.Join(err, stop()) }()
	}
	if o.convert.SigningKey != nil && runtime.GOOS == "windows" {
		cims, err := layerrun.Classes()
		if err != nil {
			log.WarnContext(ctx, "no layers become block CIMs here", "error", err)
		}
		o.worker.More = append(o.worker.More, cims...)
	}
	works, err := worker.New(client, handlers.Mux(), o.worker)
	if err != nil {
		return err
	}
	return works.Run(ctx)
}

// unlessStopped is err, unless the worker has been stopped meanwhile: then it has ended as it
// should, with what it waited for or without.
func unlessStopped(ctx context.Context, log *slog.Logger, err error) error {
	if ctx.Err() == nil {
		return err
	}
	log.InfoContext(ctx, "stopped before it took jobs", "error", err)
	return nil
}

// thaw resumes what commits that were killed have left paused.
func thaw(ctx context.Context, log *slog.Logger, containerd string) {
	thawed, err := stack.Thaw(ctx, containerd)
	if len(thawed) > 0 {
		log.WarnContext(ctx, "containers resumed that a commit had left paused", "containers", thawed)
	}
	if err != nil {
		log.WarnContext(ctx, "containers may be paused that a commit has left", "containerd", containerd, "error", err)
	}
}
