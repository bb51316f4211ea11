package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/sys"
	"github.com/spf13/cobra"

	"github.com/lithify/lithify/cimfs/differ"
	"github.com/lithify/lithify/convert/stack"
)

func (a *app) cimDifferCommand() *cobra.Command {
	var containerd string
	var merged bool
	cmd := &cobra.Command{
		Use:   "blockcim-differ ADDRESS",
		Short: "Place pulled block CIMs for containerd, which unpacks nothing",
		Long: `Serve containerd as a proxy plugin of the type diff: the block CIMs of an image that lithify
has converted are written as they are to where the snapshotter blockcim has them. ADDRESS is
a named pipe of Windows, elsewhere a socket; docs/blockcim-node.md has containerd's configuration.

containerd may be started before or after it. An interrupt lets it end the layers that it writes.`,
		Example: `  lithify blockcim-differ \\.\pipe\lithify-differ`,
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.cimDiffer(cmd.Context(), strings.TrimPrefix(args[0], "npipe://"), containerd, merged)
		},
	}
	cmd.Flags().StringVar(&containerd, "containerd", stack.DefaultAddress, "where containerd listens")
	cmd.Flags().BoolVar(&merged, "merged", false, "place merged CIMs, too, that images bring: where all who can have an image pulled trust each other")
	return cmd
}

func (a *app) cimDiffer(ctx context.Context, address, containerd string, merged bool) error {
	// Not stack.Dial, which asks for one namespace: here each request has its own.
	c, err := client.New(containerd)
	if err != nil {
		return err
	}
	defer c.Close()
	l, err := sys.GetLocalListener(address, os.Getuid(), os.Getgid())
	if err != nil {
		return fmt.Errorf("listening at %s: %w", address, err)
	}
	fmt.Fprintf(a.out, "differ up at %s\n", address)
	return differ.Run(ctx, l, &differ.Applier{Content: c.ContentStore(), Merged: merged, Log: a.log})
}
