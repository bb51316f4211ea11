// Command lithify-worker runs the jobs of a pool.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/lithify/lithify/cimfs"
	"github.com/lithify/lithify/convert/preflight"
	"github.com/lithify/lithify/convert/stack"
	"github.com/lithify/lithify/flagfile"
	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/jobs/all/run"
	buildrun "github.com/lithify/lithify/jobs/build/run"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
	layerrun "github.com/lithify/lithify/jobs/layer/run"
	restorerun "github.com/lithify/lithify/jobs/restore/run"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/worker"
	"github.com/lithify/lithify/telemetry"
)

func main() {
	stack.RunGuard()
	cimfs.RunWriter()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := serve(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "lithify-worker:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context) (err error) {
	var q queue.Config
	var cfg worker.Config
	var h convertrun.Handler
	var builds buildrun.Config
	var restores restorerun.Config
	q.AddFlags(flag.CommandLine)
	builds.AddFlags(flag.CommandLine)
	restores.AddFlags(flag.CommandLine)
	flag.StringVar(&cfg.Name, "name", "", "this worker's name, unique in the pool (default made from the host's)")
	flag.IntVar(&cfg.Slots, "slots", runtime.GOMAXPROCS(0), "jobs at a time")
	flag.IntVar(&cfg.Reserve, "reserve", 0, "slots beside those that only interactive jobs use (default a tenth, at least 1)")
	flag.DurationVar(&cfg.Grace, "grace", worker.DefaultGrace, "how long running jobs may go on when the worker is stopped")
	flag.StringVar(&h.TempDir, "temp-dir", "", "where layers lie until they are pushed (default $TMPDIR)")
	flag.BoolVar(&h.DenyPrivate, "deny-private", false, "refuse registries at loopback, link-local and private addresses")
	flag.BoolVar(&h.AllowFiles, "allow-files", false, "let jobs name files of this machine: oci:, oci-archive: and docker-archive:")
	containerd := flag.String("containerd", "", "where a containerd listens whose containers may be committed and checkpointed; with none no such jobs are taken")
	flag.StringVar(&cfg.Node, "node", "", "this machine's name, by which jobs name it that are bound to it (default the host's)")
	flag.Var(&cfg.Labels, "label", "KEY=VALUE, what this machine is called when some are chosen by their labels, as zone=a,disk=fast; may be given again")
	kinds := flag.String("kinds", "", "kinds of jobs to take, as build,convert (default all that it can)")
	ledgerKey := flag.String("ledger-key", "", "PEM file with the pool's Ed25519 key for ledger records and provenance of builds; with none the ledger is not used and provenance stays unsigned")
	verbose := flag.Bool("verbose", false, "log what is done, step by step")
	file := flagfile.Add(flag.CommandLine, "lithify-worker")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("unknown argument %q, see --help", flag.Arg(0))
	}
	outdated, err := file.Load()
	if err != nil {
		return err
	}
	if *kinds != "" {
		cfg.Kinds = strings.Split(*kinds, ",")
	}
	if *ledgerKey != "" {
		key, err := convertrun.LoadKey(*ledgerKey)
		if err != nil {
			return err
		}
		h.SignWith(key)
	}
	shutdown, log, err := telemetry.Setup(ctx, "lithify-worker", telemetry.Version(), telemetry.Options{Verbose: *verbose})
	if err != nil {
		return err
	}
	defer telemetry.Flush(ctx, shutdown)
	flagfile.Log(ctx, log, outdated)
	q.Name, q.Log, cfg.Log, h.Log, cfg.Version = "lithify-worker", log, log, log, telemetry.Version()
	client, err := queue.Connect(ctx, q)
	if err != nil {
		return err
	}
	defer client.Close()
	if h.Limiter, err = client.Limiter(); err != nil {
		return err
	}
	preflight.Log(ctx, log, preflight.Options{Dir: h.TempDir, Containerd: *containerd})
	if *containerd != "" {
		thaw(ctx, log, *containerd)
	}
	handlers := run.Handlers{Convert: h, Containerd: *containerd}
	if handlers.Restore, err = restores.Handler(*containerd); err != nil {
		return err
	}
	if builds.Enabled() {
		var stop func() error
		var more []jobs.Class
		if handlers.Build, more, stop, err = builds.Start(ctx, log); err != nil {
			return err
		}
		cfg.More = append(cfg.More, more...)
		defer func() { err = errors.Join(err, stop()) }()
	}
	if h.SigningKey != nil && runtime.GOOS == "windows" {
		cims, err := layerrun.Classes()
		if err != nil {
			log.WarnContext(ctx, "no layers become block CIMs here", "error", err)
		}
		cfg.More = append(cfg.More, cims...)
	}
	w, err := worker.New(client, handlers.Mux(), cfg)
	if err != nil {
		return err
	}
	return w.Run(ctx)
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
