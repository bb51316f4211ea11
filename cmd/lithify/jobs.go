package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/jobs/all"
	buildjob "github.com/lithify/lithify/jobs/build"
	"github.com/lithify/lithify/queue"
	"github.com/spf13/cobra"
)

func (a *app) jobsCommand() *cobra.Command {
	var p poolFlags
	cmd := &cobra.Command{Use: "jobs", Short: "Look at the pool's jobs"}
	group(cmd)
	p.add(cmd.PersistentFlags())
	cmd.AddCommand(a.jobsList(&p), a.jobsGet(&p), a.jobsWatch(&p), a.jobsLogs(&p), a.jobsExplain(&p), a.jobsCancel(&p), a.jobsDead(&p), a.jobsRetry(&p), a.jobsDiscard(&p))
	return cmd
}

func (a *app) jobsList(p *poolFlags) *cobra.Command {
	var filter queue.Filter
	var states []string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List jobs, those that changed last first",
		Example: "  lithify jobs list --state failed,dead",
		Args:    exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, s := range states {
				if !slices.Contains(jobs.States, jobs.State(s)) {
					return usageError{fmt.Errorf("--state %q is none of %v", s, jobs.States)}
				}
				filter.States = append(filter.States, jobs.State(s))
			}
			if filter.Limit <= 0 {
				return usageError{fmt.Errorf("--limit %d is not above zero", filter.Limit)}
			}
			if err := checkKind(filter.Kind); err != nil {
				return err
			}
			return a.withPool(cmd.Context(), p, func(client *queue.Client) error {
				list, err := client.List(cmd.Context(), filter)
				if err != nil {
					return err
				}
				return a.printJobs(list)
			})
		},
	}
	cmd.Flags().StringVar(&filter.Kind, "kind", "", "only jobs of this kind")
	cmd.Flags().StringSliceVar(&states, "state", nil, "only jobs in these states")
	cmd.Flags().IntVar(&filter.Limit, "limit", queue.DefaultLimit, "at most so many")
	return cmd
}

func (a *app) printJobs(list []queue.Status) error {
	if a.output == "json" {
		return a.printJSON(list)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSTATE\tATTEMPT\tAGE\tWORKER\tWHAT")
	for _, st := range list {
		fmt.Fprintf(w, "%s\t%s\t%d/%d\t%s\t%s\t%s\n", st.Record.ID, st.State, st.Attempt, st.Record.MaxAttempts,
			time.Since(st.Record.Created).Round(time.Second), st.Worker, what(st))
	}
	return w.Flush()
}

// what is the job in a few words: its args, or why it failed.
func what(st queue.Status) string {
	if st.Failure != nil && st.State != jobs.Done {
		line, _, _ := strings.Cut(st.Failure.Message, "\n")
		return line
	}
	return all.Summary(st.Job.Kind, st.Job.Args)
}

func (a *app) jobsGet(p *poolFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "get ID",
		Short: "Show one job whole, as JSON",
		Long:  "Show one job whole, as JSON. Of one that waits for others, progress says how many of these are in each state.",
		Args:  oneJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPool(cmd.Context(), p, func(client *queue.Client) error {
				st, err := client.Get(cmd.Context(), jobs.ID(args[0]))
				if err != nil {
					return err
				}
				progress, err := childStates(cmd.Context(), client, st)
				if errors.Is(err, queue.ErrUnreadable) { // another version's
					a.log.Warn("no progress", "error", err)
				} else if err != nil {
					return err
				}
				return a.printJSON(struct {
					queue.Status
					Progress map[jobs.State]int `json:"progress,omitempty"`
				}{st, progress})
			})
		},
	}
}

// childStates counts what a job waits for, or last waited for, by state.
func childStates(ctx context.Context, client *queue.Client, st queue.Status) (map[jobs.State]int, error) {
	states, err := client.States(ctx, st.Children, st.Record.ID, st.Revision)
	n := map[jobs.State]int{}
	for _, state := range states {
		n[state]++
	}
	return n, err
}

func (a *app) jobsWatch(p *poolFlags) *cobra.Command {
	var after uint64
	cmd := &cobra.Command{
		Use:   "watch ID",
		Short: "Follow a job's history until it ends",
		Long:  "Follow a job's history until it ends. The exit code is the one that submit --wait would end with.",
		Args:  oneJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPool(cmd.Context(), p, func(client *queue.Client) error {
				return a.watch(cmd.Context(), client, jobs.ID(args[0]), after)
			})
		},
	}
	cmd.Flags().Uint64Var(&after, "after", 0, "resume behind this event number")
	return cmd
}

func (a *app) watch(ctx context.Context, client *queue.Client, id jobs.ID, after uint64) error {
	if _, err := client.Get(ctx, id); err != nil {
		return err
	}
	for e, err := range client.Watch(ctx, id, after) {
		if err != nil {
			return err
		}
		if a.output == "json" {
			if err := json.NewEncoder(a.out).Encode(e); err != nil { // one a line: they come one by one
				return err
			}
			continue
		}
		if _, err := fmt.Fprintln(a.out, eventLine(e)); err != nil {
			return err
		}
	}
	st, err := client.Wait(ctx, id)
	if err != nil {
		return err
	}
	return st.Err()
}

func (a *app) jobsLogs(p *poolFlags) *cobra.Command {
	var after uint64
	cmd := &cobra.Command{
		Use:   "logs ID",
		Short: "Follow what a job prints until it ends",
		Long: "Follow what a job prints until it ends, of all its attempts. It is kept for a week; the oldest goes first where it is too much. With\n" +
			"--output json each piece is an object, whose seq is what --after takes.",
		Args: oneJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPool(cmd.Context(), p, func(client *queue.Client) error {
				return a.logs(cmd.Context(), client, jobs.ID(args[0]), after)
			})
		},
	}
	cmd.Flags().Uint64Var(&after, "after", 0, "resume behind this piece")
	return cmd
}

func (a *app) logs(ctx context.Context, client *queue.Client, id jobs.ID, after uint64) error {
	if kind, _, _ := strings.Cut(string(id), "-"); kind == buildjob.Kind && a.output != "json" {
		return (&buildFollower{out: a.out, mode: "auto"}).log(ctx, client, id, after)
	}
	for part, err := range client.ReadLog(ctx, id, after) {
		switch {
		case err != nil:
			return err
		case a.output == "json":
			err = json.NewEncoder(a.out).Encode(part)
		default:
			_, err = a.out.Write(part.Data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// eventLine is an event for people: when, who, what, and the facts by name. Of the last
// one they are left out: the command ends with the job's error.
func eventLine(e queue.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %s", e.Time.Local().Format(time.TimeOnly), e.Source, e.Phrase)
	if e.State.Ended() {
		return b.String()
	}
	for _, k := range slices.Sorted(maps.Keys(e.Attrs)) {
		if f, ok := e.Attrs[k].(float64); ok { // every number of JSON is one
			fmt.Fprintf(&b, " %s=%s", k, strconv.FormatFloat(f, 'f', -1, 64))
			continue
		}
		fmt.Fprintf(&b, " %s=%v", k, e.Attrs[k])
	}
	return b.String()
}

func (a *app) jobsCancel(p *poolFlags) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "cancel ID",
		Short: "End a job that has not ended",
		Args:  oneJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPool(cmd.Context(), p, func(client *queue.Client) error {
				st, err := client.Cancel(cmd.Context(), jobs.ID(args[0]), reason)
				if err != nil {
					return err
				}
				return a.tellLeft(st)
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "cancelled by hand", "why, for those who look at the job later")
	return cmd
}
