package main

import (
	"fmt"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/spf13/cobra"
)

func (a *app) jobsExplain(p *poolFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "explain ID",
		Short: "Say why a job is not running",
		Long: `Say why a job is not running, or that it is: what it waits for, which workers
could take it and why they do not, how many are before it. The scheduler answers
from what it decides by.`,
		Args: oneJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPool(cmd.Context(), p, func(client *queue.Client) error {
				x, err := client.Explain(cmd.Context(), jobs.ID(args[0]))
				if err != nil {
					return err
				}
				return a.printExplanation(x)
			})
		},
	}
}

func (a *app) printExplanation(x queue.Explanation) error {
	if a.output == "json" {
		return a.printJSON(x)
	}
	fmt.Fprintf(a.out, "%s is %s\n", x.ID, x.State)
	for _, r := range x.Reasons {
		if _, err := fmt.Fprintln(a.out, "  "+r.Text); err != nil {
			return err
		}
	}
	return nil
}
