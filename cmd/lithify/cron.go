package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/containerd/errdefs"
	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/jobs/all"
	convertjob "github.com/lithify/lithify/jobs/convert"
	"github.com/lithify/lithify/queue"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) cronCommand() *cobra.Command {
	var p poolFlags
	cmd := &cobra.Command{Use: "cron", Short: "Have the pool do it again and again, by a timetable"}
	group(cmd)
	p.add(cmd.PersistentFlags())
	cmd.AddCommand(a.cronAdd(&p), a.cronList(&p), a.cronRun(&p), a.cronRemove(&p))
	return cmd
}

func (a *app) cronAdd(p *poolFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add",
		Short: "Make a timetable, or replace the one of its name",
		Long: `Make a timetable, or replace the one of its name. The verbs take the flags they
take without a pool.

SCHEDULE is five fields as in crontab (minute, hour, day of month, month, day of
week), six with seconds first, @hourly, @daily, @weekly, @monthly, @yearly, or
"@every 10m". It is read in --timezone, UTC if none is given.

Where the pool was down when it should have fired, it fires once when it is up.`,
	}
	group(cmd)
	cmd.AddCommand(a.cronAddConvert(p), a.cronAddPrune(p))
	return cmd
}

// timetable holds the flags of every timetable.
type timetable struct {
	zone    string
	timeout time.Duration
	share   shareFlags
}

func (t *timetable) add(fs *pflag.FlagSet) {
	fs.StringVar(&t.zone, "timezone", "", "IANA time zone of SCHEDULE, for example Europe/Zurich (default UTC)")
	t.share.add(fs, jobs.Bulk)
	fs.DurationVar(&t.timeout, "timeout", jobs.DefaultTimeout, "give each job up after this time")
}

// setCron makes the timetable of which args begin with NAME and SCHEDULE. It finds the pool
// before it has the job's args looked for.
func (a *app) setCron(ctx context.Context, p *poolFlags, t timetable, args []string, job func() (jobs.Args, error)) error {
	if t.timeout <= 0 {
		return usageError{fmt.Errorf("--timeout %v is not above zero", t.timeout)}
	}
	return a.withPool(ctx, p, func(client *queue.Client) error {
		job, err := job()
		if err != nil {
			return err
		}
		made, err := jobs.NewTemplate(job, jobs.Options{Timeout: t.timeout, Submitter: "cron " + args[0],
			Priority: jobs.Priority(t.share.priority), Tenant: t.share.tenant})
		if err != nil {
			return usageError{err}
		}
		err = client.SetCron(ctx, queue.Cron{Name: args[0], Schedule: args[1], TimeZone: t.zone, Job: made})
		if errdefs.IsInvalidArgument(err) {
			return usageError{err}
		}
		return err
	})
}

func (a *app) cronAddConvert(p *poolFlags) *cobra.Command {
	var f convertFlags
	var t timetable
	cmd := &cobra.Command{
		Use:   "convert NAME SCHEDULE SRC DST",
		Short: "Convert an image by a timetable",
		Long: `Convert an image by a timetable. What SRC names is looked up each time: now, to see
that it is there, and then whenever the job runs.`,
		Example: `  lithify cron add convert nightly '30 3 * * *' --timezone Europe/Zurich \
    docker.io/library/debian:12 registry.example.com/debian:12-erofs`,
		Args: exactArgs(4),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.setCron(cmd.Context(), p, t, args, func() (jobs.Args, error) {
				job, err := f.poolArgs(cmd.Context(), args[2], args[3])
				job.SourceDigest = ""
				return job, err
			})
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().StringVar(&f.job.LedgerRepo, "ledger-repo", convertjob.DefaultLedgerRepo, "repository of DST's registry in which converted layers are found again; empty for none")
	t.add(cmd.Flags())
	return cmd
}

func (a *app) cronList(p *poolFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the timetables, and when they fired",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withPool(cmd.Context(), p, func(client *queue.Client) error {
				list, err := client.Crons(cmd.Context())
				if err != nil {
					return err
				}
				return a.printCrons(list)
			})
		},
	}
}

func (a *app) printCrons(list []queue.CronStatus) error {
	if a.output == "json" {
		return a.printJSON(list)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tSCHEDULE\tTIME ZONE\tFIRED\tJOB\tWHAT")
	for _, c := range list {
		zone, fired, job := c.TimeZone, "", ""
		if zone == "" {
			zone = "UTC"
		}
		if c.Last != nil {
			fired, job = c.Last.Time.Format(time.RFC3339), string(c.Last.Job)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", c.Name, c.Schedule, zone, fired, job, all.Summary(c.Job.Kind, c.Job.Args))
	}
	return w.Flush()
}

func (a *app) cronRun(p *poolFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "run NAME",
		Short: "Fire a timetable now, beside its schedule, and print the job's ID",
		Args:  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPool(cmd.Context(), p, func(client *queue.Client) error {
				id, err := client.FireCron(cmd.Context(), args[0])
				if err == nil {
					err = client.AwaitJob(cmd.Context(), id)
				}
				if err != nil {
					return err
				}
				if a.output == "json" {
					return a.printJSON(map[string]jobs.ID{"id": id})
				}
				_, err = fmt.Fprintln(a.out, id)
				return err
			})
		},
	}
}

func (a *app) cronRemove(p *poolFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "End a timetable; what it has fired goes on",
		Args:  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPool(cmd.Context(), p, func(client *queue.Client) error { return client.RemoveCron(cmd.Context(), args[0]) })
		},
	}
}
