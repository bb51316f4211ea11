package main

import (
	"context"
	"fmt"
	"os"

	"github.com/lithify/lithify/queue/bench"
	"github.com/spf13/cobra"
)

func (a *app) benchCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "bench", Short: "Measure lithify on this machine"}
	group(cmd)
	cmd.AddCommand(a.benchQueue())
	return cmd
}

func (a *app) benchQueue() *cobra.Command {
	var cfg bench.Config
	var p poolFlags
	cmd := &cobra.Command{
		Use:   "queue",
		Short: "Measure the queue: latency, throughput, restart, the death of a worker",
		Long: `Measure a pool that is real but for its jobs, which do nothing: a server, a
scheduler and workers, all in this process. Printed are

  dispatch  how long a job takes to its handler while workers are idle
  drain     jobs a second, queued and then worked off, by River's method
  restart   how soon a pool with all these jobs is back
  death     how soon another worker has the job of one that is gone

With --fan-out there is only that: one job waits for parts, these for images, and these
for so many layers, which they share. With --cancel that job is cancelled when half of
the layers ran, and measured is how long it takes until nothing of it is open.

The server is an embedded one that syncs every write, in a directory that is
removed afterwards. With --nats it is yours: one on which no scheduler runs, and
on which the jobs stay.`,
		Example: "  lithify bench queue\n  lithify bench queue --jobs 1000000 --dir /var/tmp",
		Args:    exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if p.URL != "" {
				cfg.Server = &p.Config
			}
			return a.bench(cmd.Context(), cfg)
		},
	}
	fs := cmd.Flags()
	p.add(fs)
	fs.Lookup("nats").Usage = "NATS URL of a server to measure (default: an embedded one)"
	fs.StringVar(&cfg.Dir, "dir", "", "where a directory for the embedded server is made (default $TMPDIR)")
	fs.IntVar(&cfg.Jobs, "jobs", bench.DefaultJobs, "jobs to queue and drain")
	fs.IntVar(&cfg.FanOut, "fan-out", 0, "measure this instead: one job that fans out to so many layers")
	fs.BoolVar(&cfg.Cancel, "cancel", false, "with --fan-out: cancel it when half of the layers ran")
	fs.IntVar(&cfg.Slots, "slots", bench.DefaultSlots, "jobs at a time while draining")
	fs.IntVar(&cfg.Rate, "rate", bench.DefaultRate, "jobs a second while dispatch is measured")
	fs.DurationVar(&cfg.For, "for", bench.DefaultFor, "how long dispatch is measured")
	fs.DurationVar(&cfg.AckWait, "ack-wait", bench.DefaultAckWait, "how long a silent worker keeps its job")
	return cmd
}

// bench prints each phase as soon as it is known, or the whole as JSON.
func (a *app) bench(ctx context.Context, cfg bench.Config) error {
	cfg.Log = a.log
	if cfg.Server == nil {
		dir, err := os.MkdirTemp(cfg.Dir, "lithify-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		cfg.Dir = dir
	}
	tell := func(p bench.Phase) { fmt.Fprintln(a.out, p) }
	if a.output == "json" {
		tell = func(bench.Phase) {}
	}
	r, err := bench.Run(ctx, cfg, tell)
	if err != nil || a.output != "json" {
		return err
	}
	return a.printJSON(r)
}
