package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func (a *app) catCommand() *cobra.Command {
	var f filesFlags
	cmd := &cobra.Command{
		Use:   "cat REF PATH",
		Short: "Print a file of an EROFS variant without pulling it",
		Long: `Print a file of an EROFS variant as a container sees it: symbolic links are followed within the
image. No more is fetched than metadata and the file, but of layers of zstd frames without a chunk index. What a
registry sends of a part of a blob cannot be compared with the blob's digest; lithify verify reads all of it.`,
		Example: `  lithify cat registry.example.com/debian:12-erofs /etc/os-release`,
		Args:    exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			files, err := f.open(cmd, args[0])
			if err != nil {
				return err
			}
			defer closing(files, &err)
			at, err := files.Stat(args[1])
			if err != nil {
				return err
			}
			if at.Info.IsDir() {
				return usageError{fmt.Errorf("%s is a directory", args[1])}
			}
			r, err := files.FS.Open(at)
			if err != nil {
				return err
			}
			defer r.Close()
			_, err = io.Copy(a.out, until(cmd.Context(), r))
			return err
		},
	}
	f.add(cmd)
	return cmd
}

// closing closes c at the end of a function that returns *err.
func closing(c io.Closer, err *error) { *err = errors.Join(*err, c.Close()) }
