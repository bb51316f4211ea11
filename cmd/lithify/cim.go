package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/lithify/lithify/cimfs"
	"github.com/lithify/lithify/cimfs/classic"
	"github.com/spf13/cobra"
)

func (a *app) cimCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cim",
		Short: "Look into CIMs, the read-only file systems of Windows",
		Long: `Look into classic CIMs, in which containerd and hcsshim keep layers of Windows: NAME.cim and
the region files beside it. It works on every system, for version 2 of the format, and was
never tried on a CIM that Windows made. Block CIMs, one file or disk each, are another
format, which is not public: of these only the VHD footer is read and written.`,
	}
	group(cmd)
	cmd.AddCommand(a.cimLsCommand(), a.cimCatCommand(), a.cimVerifyCommand(), a.cimFooterCommand())
	return cmd
}

// refuseEmulated refuses what this project's tests make in the place of a CIM.
func refuseEmulated(f *os.File) error {
	if err := cimfs.CheckReal(io.NewSectionReader(f, 0, 512)); err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	return nil
}

// withCIM has do read a CIM.
func withCIM(name string, do func(*classic.CIM) error) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	err = refuseEmulated(f)
	f.Close()
	if err != nil {
		return err
	}
	c, err := classic.Open(name)
	if err != nil {
		return err
	}
	defer c.Close()
	return do(c)
}

// cimPath is a path within a CIM as a person writes it: with either separator, from the root.
func cimPath(arg string) string {
	clean := path.Clean("/" + strings.ReplaceAll(arg, `\`, "/"))
	if clean == "/" {
		return "."
	}
	return clean[1:]
}

// until reads what r has, until ctx is done.
func until(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(b []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(b)
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
