package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/lithify/lithify/cimfs/classic"
	"github.com/spf13/cobra"
)

func (a *app) cimCatCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cat CIM PATH[:STREAM]",
		Short: "Print a file of a classic CIM, or an alternate data stream",
		Example: `  lithify cim cat 17.cim Files/Windows/System32/drivers/etc/hosts
  lithify cim cat 17.cim setup.exe:Zone.Identifier`,
		Args: exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withCIM(args[0], func(c *classic.CIM) error {
				r, err := openInCIM(c, args[1])
				if err != nil {
					return err
				}
				_, err = io.Copy(a.out, until(cmd.Context(), r))
				return err
			})
		},
	}
}

func openInCIM(c *classic.CIM, arg string) (io.Reader, error) {
	name, stream, ok := strings.Cut(arg, ":") // which no name of Windows has
	name = cimPath(name)
	if ok {
		return c.OpenStream(name, stream)
	}
	info, err := c.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, usageError{fmt.Errorf("%s is a directory", name)}
	}
	return c.Open(name)
}
