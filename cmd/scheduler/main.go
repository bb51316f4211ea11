// Command lithify-scheduler admits the jobs of a pool to its workers.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/lithify/lithify/flagfile"
	"github.com/lithify/lithify/jobs/all"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/telemetry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "lithify-scheduler:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var q queue.Config
	var cfg scheduler.Config
	q.AddFlags(flag.CommandLine)
	flag.StringVar(&cfg.Name, "name", "", "name in lithify schedulers (default: the host's and eight random digits)")
	flag.IntVar(&cfg.Replicas, "replicas", 1, "replicas of the streams: 3 on a cluster")
	flag.DurationVar(&cfg.Keep, "keep", scheduler.DefaultKeep, "how long jobs that ended are remembered")
	verbose := flag.Bool("verbose", false, "log what is done, step by step")
	file := flagfile.Add(flag.CommandLine, "lithify-scheduler")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("unknown argument %q, see --help", flag.Arg(0))
	}
	outdated, err := file.Load()
	if err != nil {
		return err
	}
	shutdown, log, err := telemetry.Setup(ctx, "lithify-scheduler", telemetry.Version(), telemetry.Options{Verbose: *verbose})
	if err != nil {
		return err
	}
	defer telemetry.Flush(ctx, shutdown)
	flagfile.Log(ctx, log, outdated)
	q.Name, q.Log, cfg.Log, cfg.Version = "lithify-scheduler", log, log, telemetry.Version()
	client, err := queue.Connect(ctx, q)
	if err != nil {
		return err
	}
	defer client.Close()
	return scheduler.New(client, all.Validators(), cfg).Run(ctx)
}
