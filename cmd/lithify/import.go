package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/convert/stack"
	convertjob "github.com/lithify/lithify/jobs/convert"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
	checkpoints "github.com/lithify/lithify/restore/archive"
	"github.com/lithify/lithify/restore/checkpoint"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

func (a *app) importCheckpointCommand() *cobra.Command {
	var f importFlags
	var base, key string
	cmd := &cobra.Command{
		Use:   "import SRC DST",
		Short: "Make a checkpoint image of what an engine has written",
		Long: `Make a checkpoint image of a checkpoint that another engine has written. SRC is one of

  FILE                archive of containerd's CRI, CRI-O or Podman, compressed or not; - is
                      standard input. Kubernetes' kubelet keeps them in /var/lib/kubelet/checkpoints
  containerd:IMAGE    what ctr containers checkpoint has made, in this machine's containerd
  oci-archive:FILE    the same from ctr images export --skip-manifest-json, or oci:DIR if
                      unpacked; as FILE alone it is known by its first entry

What ctr has made is an index that no registry takes. Archives of CRI-O and Podman do not say
by its digest which image the container stood on, and ctr's checkpoints do with --image only:
--base does.

SRC is read as a stranger's: links, devices, names that lead elsewhere and CRIU's images that
are not whole are refused, and then nothing is published.`,
		Example: `  lithify checkpoint import --base docker.io/library/redis@sha256:... podman.tar.zst registry.example.com/redis:saved
  lithify checkpoint import containerd:web-saved registry.example.com/web:saved`,
		Args: exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			pinned, err := parseBase(base)
			if err != nil {
				return usageError{err}
			}
			if f.options.Key, err = signKey(key); err != nil {
				return err
			}
			dst, err := convertrun.Handler{}.Create(args[1], f.insecure)
			if err != nil {
				return usageError{err}
			}
			r, err := f.run(cmd, args[0], pinned, dst)
			if err != nil {
				return convertrun.WithKind(err)
			}
			return a.printCheckpoint(r)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&base, "base", "", "NAME@DIGEST of the image that the container stood on (default what SRC says)")
	fs.StringVar(&f.address, "containerd", stack.DefaultAddress, "where containerd listens that has containerd:IMAGE")
	fs.StringVar(&f.namespace, "namespace", stack.DefaultNamespace, "containerd's namespace of the image; Kubernetes' is k8s.io")
	fs.BoolVar(&f.insecure, "insecure", false, "speak plain HTTP to the registry")
	addSignKey(fs, &key)
	fs.StringVar(&f.options.TempDir, "temp-dir", "", "where memory lies until it is pushed (default $TMPDIR)")
	return cmd
}

type importFlags struct {
	address, namespace string
	insecure           bool
	options            checkpoint.Options
}

// run imports from where src says.
func (f importFlags) run(cmd *cobra.Command, src string, base checkpoints.Base, dst convert.Target) (_ *checkpoint.Result, err error) {
	ctx := cmd.Context()
	if image, ok := strings.CutPrefix(src, "containerd:"); ok {
		d, err := stack.Dial(f.address, f.namespace)
		if err != nil {
			return nil, err
		}
		defer d.Close()
		n, err := checkpoint.Stored(ctx, d, image)
		if err != nil {
			return nil, err
		}
		return checkpoint.ImportNative(ctx, n, base, dst, f.options)
	}
	in, layout, err := openImport(cmd.InOrStdin(), src)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	if layout {
		src = "oci-archive:" + src
	}
	if convertjob.IsFile(src) {
		from, err := convertrun.Handler{}.Open(src, f.insecure)
		if err != nil {
			return nil, err
		}
		n, err := checkpoint.Native(ctx, from)
		if err != nil {
			return nil, err
		}
		return checkpoint.ImportNative(ctx, n, base, dst, f.options)
	}
	return checkpoint.Import(ctx, in, base, dst, f.options)
}

// openImport opens the file that src is, if it is one, and tells whether that is an archive of an
// OCI layout, as ctr images export writes it.
func openImport(stdin io.Reader, src string) (in io.ReadCloser, layout bool, err error) {
	if convertjob.IsFile(src) {
		return io.NopCloser(strings.NewReader("")), false, nil
	}
	in = io.NopCloser(stdin)
	if src != "-" {
		if in, err = os.Open(src); err != nil {
			return nil, false, usageError{err}
		}
	}
	head := bufio.NewReader(in)
	if layout = isLayout(head); layout && src == "-" {
		return nil, false, usageError{errors.New("standard input is an archive of images, as of ctr images export, which is read more than once: write it to a file")}
	}
	return struct {
		io.Reader
		io.Closer
	}{head, in}, layout, nil
}

// isLayout looks at the first entry: no engine's checkpoint has one of such a name.
func isLayout(r *bufio.Reader) bool {
	const block = 512 // of a tar
	head, _ := r.Peek(block)
	hdr, err := tar.NewReader(bytes.NewReader(head)).Next()
	if err != nil {
		return false
	}
	name, _, _ := strings.Cut(path.Clean(hdr.Name), "/")
	return slices.Contains([]string{"blobs", "index.json", "manifest.json", "oci-layout"}, name)
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
