package main

import (
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	"github.com/lithify/lithify/flagfile"
	"github.com/spf13/cobra"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Look after files that --config names"}
	group(cmd)
	cmd.AddCommand(&cobra.Command{
		Use:   "migrate FILE",
		Short: "Print how to have a file of flags as this version writes it",
		Long: `Print, as a diff, how to have a file that --config of lithify-worker, lithify-scheduler
or lithify serve names as this version of lithify writes it: flags that were renamed by
their names of now, comments and all else as they are. Nothing is written.`,
		Example: "  lithify config migrate /etc/lithify/worker.yaml | patch -p1 -d /",
		Args:    exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			diff, err := flagfile.Migrate(args[0], text)
			if errdefs.IsInvalidArgument(err) {
				return usageError{err}
			}
			if err == nil && diff == "" {
				fmt.Fprintln(a.err, "nothing to migrate")
			}
			fmt.Fprint(a.out, diff)
			return err
		},
	})
	return cmd
}
