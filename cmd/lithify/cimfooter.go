package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/lithify/lithify/cimfs/vhd"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

func (a *app) cimFooterCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "footer",
		Short: "Make a fixed VHD of a block CIM, and a block CIM of it",
		Long: `Add, strip or show the VHD footer that makes a fixed disk of a block CIM, as virtual machines
of Windows attach it. Registries hold block CIMs without one. The footer's ID follows from the
content, so that the same CIM makes the same disk.`,
	}
	group(cmd)
	cmd.AddCommand(
		a.footerCommand("add FILE", "Append a VHD footer to a file", os.O_RDWR, addFooter),
		a.footerCommand("strip FILE", "Cut the VHD footer off a file", os.O_RDWR, func(_ context.Context, f *os.File) (*vhd.Footer, error) { return vhd.Strip(f) }),
		a.footerCommand("show FILE", "Show and check the VHD footer of a file", os.O_RDONLY, func(_ context.Context, f *os.File) (*vhd.Footer, error) { return vhd.Read(f) }),
	)
	return cmd
}

func (a *app) footerCommand(use, short string, flag int, do func(context.Context, *os.File) (*vhd.Footer, error)) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args:  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			f, err := os.OpenFile(args[0], flag, 0)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, f.Close()) }()
			if err := refuseEmulated(f); err != nil {
				return err
			}
			footer, err := do(cmd.Context(), f)
			if err != nil {
				return err
			}
			return a.printFooter(footer)
		},
	}
}

func addFooter(ctx context.Context, f *os.File) (*vhd.Footer, error) {
	content, err := digest.SHA256.FromReader(until(ctx, f))
	if err != nil {
		return nil, err
	}
	return vhd.Append(f, content)
}

func (a *app) printFooter(f *vhd.Footer) error {
	if a.output == "json" {
		return a.printJSON(f)
	}
	_, err := fmt.Fprintf(a.out, "fixed disk of %d bytes, ID %s, created %s by %q\n", f.DiskSize, f.ID, f.Created.Format(time.RFC3339), f.Creator)
	return err
}
