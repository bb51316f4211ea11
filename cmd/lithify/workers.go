package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/lithify/lithify/queue"
	"github.com/spf13/cobra"
)

func (a *app) workersCommand() *cobra.Command {
	var p poolFlags
	cmd := &cobra.Command{
		Use:   "workers",
		Short: "List the pool's workers and what they do",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withPool(cmd.Context(), &p, func(client *queue.Client) error {
				nodes, err := client.Workers(cmd.Context())
				if err != nil {
					return err
				}
				return a.printWorkers(nodes)
			})
		},
	}
	p.add(cmd.Flags())
	return cmd
}

func (a *app) printWorkers(nodes []queue.Node) error {
	if a.output == "json" {
		return a.printJSON(nodes)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tNODE\tLABELS\tPLATFORM\tVERSION\tRUNNING\tUP\tCLASSES")
	for _, n := range nodes {
		running := fmt.Sprintf("%d/%d", len(n.Running), n.Slots)
		if n.Draining {
			running += " draining"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s/%s\t%s\t%s\t%s\t%v\n", n.Name, n.Node, n.Labels.String(), n.OS, n.Arch, n.Version, running, time.Since(n.Started).Round(time.Second), n.Classes)
	}
	return w.Flush()
}
