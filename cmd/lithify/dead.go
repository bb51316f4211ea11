package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/spf13/cobra"
)

func (a *app) jobsDead(p *poolFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "dead",
		Short: "List the jobs that used up their attempts, by error",
		Long: `List the jobs that used up their attempts, those of one error together: digests and
numbers in it do not count. They stay until they are retried or discarded, 90 days at
most. Jobs that took two workers down are in quarantine: only "jobs retry" runs
them again.`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withPool(cmd.Context(), p, func(client *queue.Client) error {
				letters, err := client.Letters(cmd.Context())
				if err != nil {
					return err
				}
				return a.printDead(groupDead(letters))
			})
		},
	}
}

// deadGroup are the dead jobs of one kind and error.
type deadGroup struct {
	Kind        string    `json:"kind"`
	Error       string    `json:"error"` // of the latest
	Quarantined bool      `json:"quarantined,omitempty"`
	Last        time.Time `json:"last"`
	IDs         []jobs.ID `json:"ids"`
}

// particular is what differs between two cases of one error.
var particular = regexp.MustCompile(`[0-9a-f]{12,}|\d+`)

// groupDead keeps the order of letters, which begin with the latest.
func groupDead(letters []jobs.Record) []*deadGroup {
	groups, by := []*deadGroup{}, map[string]*deadGroup{}
	for _, r := range letters {
		line, _, _ := strings.Cut(r.Err().Error(), "\n")
		line = strings.TrimPrefix(line, fmt.Sprintf("job %s is %s: ", r.ID, r.State))
		key := fmt.Sprint(r.Class.Kind, r.Quarantined(), particular.ReplaceAllString(line, "#"))
		g := by[key]
		if g == nil {
			g = &deadGroup{Kind: r.Class.Kind, Error: line, Quarantined: r.Quarantined(), Last: r.Updated}
			by[key], groups = g, append(groups, g)
		}
		g.IDs = append(g.IDs, r.ID)
	}
	slices.SortStableFunc(groups, func(a, b *deadGroup) int { return cmp.Compare(len(b.IDs), len(a.IDs)) })
	return groups
}

func (a *app) printDead(groups []*deadGroup) error {
	if a.output == "json" {
		return a.printJSON(groups)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "JOBS\tKIND\tLAST\tONE OF THEM\tERROR")
	for _, g := range groups {
		text := g.Error
		if g.Quarantined {
			text = "quarantined: " + text
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", len(g.IDs), g.Kind, g.Last.Local().Format(time.DateTime), g.IDs[0], text)
	}
	return w.Flush()
}

// selection names jobs, by ID or by what they have in common.
type selection struct {
	states []string
	filter queue.Filter
	yes    bool
}

func (s *selection) add(cmd *cobra.Command, states string) {
	fs := cmd.Flags()
	if states != "" {
		fs.StringSliceVar(&s.states, "state", nil, "without IDs: all jobs in these states, of "+states)
	}
	fs.StringVar(&s.filter.Kind, "kind", "", "of those, only jobs of this kind")
	fs.StringVar(&s.filter.Error, "error", "", "of those, only jobs whose error has this text")
	fs.BoolVar(&s.yes, "yes", false, "without IDs: do it; else it is only said how many jobs there are")
}

// check wants what chooses among all jobs where no IDs do.
func (s *selection) check(ids []string) error {
	if len(ids) > 0 && (s.filter.Kind != "" || s.filter.Error != "") {
		return usageError{errors.New("--kind and --error choose among all jobs, not among IDs")}
	}
	return checkKind(s.filter.Kind)
}

// each calls do for the jobs that are named, or for those found, or says how many these are.
func (a *app) each(ids []string, s selection, find func(queue.Filter) ([]jobs.Record, error), verb string, do func(jobs.ID) error) error {
	if len(ids) == 0 {
		found, err := find(s.filter)
		if err != nil {
			return err
		}
		if !s.yes && a.output == "json" {
			return a.printJSON(map[string]int{"match": len(found)})
		}
		if !s.yes {
			_, err := fmt.Fprintf(a.out, "%d jobs match; --yes will %s them\n", len(found), verb)
			return err
		}
		for _, r := range found {
			ids = append(ids, string(r.ID))
		}
	}
	var errs []error
	done := []string{}
	for _, id := range ids {
		err := do(jobs.ID(id))
		if err == nil && a.output != "json" {
			_, err = fmt.Fprintln(a.out, id)
		} else if err == nil {
			done = append(done, id)
		}
		errs = append(errs, err)
	}
	if a.output == "json" {
		errs = append(errs, a.printJSON(done))
	}
	return errors.Join(errs...)
}

// records are all jobs that match.
func records(ctx context.Context, client *queue.Client, f queue.Filter) (rs []jobs.Record, err error) {
	f.Limit = math.MaxInt32
	list, err := client.List(ctx, f)
	for _, st := range list {
		rs = append(rs, st.Record)
	}
	return rs, err
}

// letters are the jobs on the list of dead ones that match.
func letters(ctx context.Context, client *queue.Client, f queue.Filter) ([]jobs.Record, error) {
	dead, err := client.Letters(ctx)
	return slices.DeleteFunc(dead, func(r jobs.Record) bool { return !f.Matches(r) }), err
}

func (a *app) jobsRetry(p *poolFlags) *cobra.Command {
	var s selection
	cmd := &cobra.Command{
		Use:   "retry [ID]...",
		Args:  jobIDs,
		Short: "Run jobs again that ended without a result",
		Long: `Run jobs again that failed, died or were cancelled, with all their attempts and, from
now, all their time. stdout gets the IDs.`,
		Example: `  lithify jobs retry --state dead,failed --error "503 Service Unavailable" --yes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 0) == (len(s.states) == 0) {
				return usageError{errors.New("want IDs, or --state for all jobs in a state")}
			}
			if err := s.check(args); err != nil {
				return err
			}
			for _, st := range s.states {
				if state := jobs.State(st); !state.Ended() || state == jobs.Done {
					return usageError{fmt.Errorf("--state %q is none of failed, dead, cancelled", st)}
				}
				s.filter.States = append(s.filter.States, jobs.State(st))
			}
			return a.withPool(cmd.Context(), p, func(client *queue.Client) error {
				find := func(f queue.Filter) ([]jobs.Record, error) { return records(cmd.Context(), client, f) }
				return a.each(args, s, find, "retry", func(id jobs.ID) error {
					_, err := client.Retry(cmd.Context(), id)
					return err
				})
			})
		},
	}
	s.add(cmd, "failed, dead, cancelled")
	return cmd
}

func (a *app) jobsDiscard(p *poolFlags) *cobra.Command {
	var s selection
	var everything bool
	cmd := &cobra.Command{
		Use:   "discard [ID]...",
		Args:  jobIDs,
		Short: "Take dead jobs off the list that jobs dead shows",
		Long: `Take dead jobs off the list that "jobs dead" shows. Their records and history stay as
long as those of other ended jobs, and they can still be retried. stdout gets the IDs.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 0) != everything {
				return usageError{errors.New("want IDs, or --all for all that are on the list")}
			}
			if err := s.check(args); err != nil {
				return err
			}
			return a.withPool(cmd.Context(), p, func(client *queue.Client) error {
				find := func(f queue.Filter) ([]jobs.Record, error) { return letters(cmd.Context(), client, f) }
				return a.each(args, s, find, "discard", func(id jobs.ID) error { return client.Discard(cmd.Context(), id) })
			})
		},
	}
	s.add(cmd, "")
	cmd.Flags().BoolVar(&everything, "all", false, "without IDs: all that are on the list")
	return cmd
}
