package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/lithify/lithify/queue"
	"github.com/spf13/cobra"
)

func (a *app) schedulersCommand() *cobra.Command {
	var p poolFlags
	cmd := &cobra.Command{
		Use:   "schedulers",
		Short: "List the pool's schedulers and which of them leads",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withPool(cmd.Context(), &p, func(client *queue.Client) error {
				found, err := client.Schedulers(cmd.Context())
				if err != nil {
					return err
				}
				return a.printSchedulers(found)
			})
		},
	}
	p.add(cmd.Flags())
	return cmd
}

func (a *app) printSchedulers(found []queue.Scheduler) error {
	if a.output == "json" {
		return a.printJSON(found)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tHOST\tVERSION\tUP\tROLE")
	for _, s := range found {
		role := "standby"
		if s.Leads {
			role = "leader"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", s.Name, s.Host, s.Version, time.Since(s.Started).Round(time.Second), role)
	}
	return w.Flush()
}
