package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/lithify/lithify/convert/registry"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
	checkpoints "github.com/lithify/lithify/restore/archive"
	"github.com/lithify/lithify/restore/checkpoint"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

func (a *app) importCheckpointCommand() *cobra.Command {
	var base, tempDir, key string
	var insecure bool
	cmd := &cobra.Command{
		Use:   "import FILE DST",
		Short: "Make a checkpoint image of an engine's archive",
		Long: `Make a checkpoint image of a checkpoint archive that containerd's CRI, CRI-O or Podman has
written, compressed or not; - is standard input. Kubernetes' kubelet keeps them in
/var/lib/kubelet/checkpoints. Archives of CRI-O and Podman do not say by its digest which
image the container stood on: --base does.

The archive is read as a stranger's: links, devices, names that lead elsewhere and CRIU's
images that are not whole are refused, and then nothing is published.`,
		Example: `  lithify checkpoint import --base docker.io/library/redis@sha256:... podman.tar.zst registry.example.com/redis:saved`,
		Args:    exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			pinned, err := parseBase(base)
			if err != nil {
				return usageError{err}
			}
			o := checkpoint.Options{TempDir: tempDir}
			if o.Key, err = signKey(key); err != nil {
				return err
			}
			dst, err := convertrun.Handler{}.Create(args[1], insecure)
			if err != nil {
				return usageError{err}
			}
			in := io.NopCloser(cmd.InOrStdin())
			if args[0] != "-" {
				if in, err = os.Open(args[0]); err != nil {
					return usageError{err}
				}
			}
			defer func() { err = errors.Join(err, in.Close()) }()
			r, err := checkpoint.Import(cmd.Context(), in, pinned, dst, o)
			if err != nil {
				return convertrun.WithKind(err)
			}
			return a.printCheckpoint(r)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&base, "base", "", "NAME@DIGEST of the image that the container stood on (default what the archive says)")
	fs.BoolVar(&insecure, "insecure", false, "speak plain HTTP to the registry")
	addSignKey(fs, &key)
	fs.StringVar(&tempDir, "temp-dir", "", "where memory lies until it is pushed (default $TMPDIR)")
	return cmd
}

func parseBase(s string) (b checkpoints.Base, err error) {
	if s == "" {
		return b, nil
	}
	name, d, _ := strings.Cut(s, "@")
	if digest.Digest(d).Validate() != nil || registry.Check(s) != nil {
		return b, fmt.Errorf("--base %q: want NAME@DIGEST", s)
	}
	return checkpoints.Base{Name: name, Digest: digest.Digest(d)}, nil
}
