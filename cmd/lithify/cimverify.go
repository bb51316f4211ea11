package main

import (
	"fmt"

	"github.com/lithify/lithify/cimfs/classic"
	"github.com/spf13/cobra"
)

func (a *app) cimVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify CIM",
		Short: "Check that a classic CIM holds together",
		Long: `Read what a classic CIM has of each file and directory, and check that all of it is where the
CIM says, that files are found by their names and that directories form a tree. Content is not
compared with anything: how Windows makes the digests beside a CIM is not known.`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withCIM(args[0], func(c *classic.CIM) error {
				s, err := c.Verify(cmd.Context())
				if err != nil {
					return fmt.Errorf("verify %s: %w", args[0], err)
				}
				if a.output == "json" {
					return a.printJSON(s)
				}
				_, err = fmt.Fprintf(a.out, "%s holds together: directories %d, files %d, further names %d, streams %d\n", args[0], s.Directories, s.Files, s.Links, s.Streams)
				return err
			})
		},
	}
}
