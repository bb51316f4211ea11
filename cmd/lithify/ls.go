package main

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/containerd/platforms"
	"github.com/lithify/lithify/convert/inspect"
	"github.com/lithify/lithify/convert/overlay"
	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
)

// filesFlags say of which variant the files are meant.
type filesFlags struct {
	platform string
	tempDir  string
	insecure bool
}

func (f *filesFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.platform, "platform", "", "platform of the variant, os/arch[/variant] (default this machine's, or the only one)")
	fs.StringVar(&f.tempDir, "temp-dir", "", "where layers lie that have to be fetched whole (default $TMPDIR)")
	fs.BoolVar(&f.insecure, "insecure", false, "speak plain HTTP to the registry")
}

func (f *filesFlags) open(cmd *cobra.Command, ref string) (*inspect.Files, error) {
	want, err := platformFlag(f.platform)
	if err != nil {
		return nil, err
	}
	src, err := registry.Open(ref, registry.Options{Insecure: f.insecure})
	if err != nil {
		return nil, err
	}
	return inspect.Open(cmd.Context(), src, inspect.Options{Platform: want, TempDir: f.tempDir})
}

// platformFlag is what --platform names, nil where it was not given.
func platformFlag(value string) (*ocispec.Platform, error) {
	if value == "" {
		return nil, nil
	}
	list, err := platformFlags([]string{value})
	if err != nil {
		return nil, err
	}
	return &list[0], nil
}

// platformFlags are what a --platform names that may be repeated.
func platformFlags(values []string) (list []ocispec.Platform, err error) {
	for _, v := range values {
		p, err := platforms.Parse(v)
		if err != nil {
			return nil, usageError{err}
		}
		list = append(list, p)
	}
	return list, nil
}

func (a *app) lsCommand() *cobra.Command {
	var f filesFlags
	var recursive bool
	cmd := &cobra.Command{
		Use:   "ls REF [PATH]",
		Short: "List files of an EROFS variant without pulling it",
		Long: `List what a directory of an EROFS variant holds, or what PATH is if it is something else, as a
container sees it: whiteouts are applied, and symbolic links on the way to PATH are followed. The metadata of each layer
is fetched, by range requests; a layer of zstd frames without a chunk index is fetched whole.

A line has mode, owner, size, time and name; --output json has extended attributes, too, and the layer that a
file is from.`,
		Example: `  lithify ls registry.example.com/debian:12-erofs /etc
  lithify ls -R -o json oci:layout:app`,
		Args: oneOrTwo,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			files, err := f.open(cmd, args[0])
			if err != nil {
				return err
			}
			defer closing(files, &err)
			at, err := files.Stat(path.Join(args[1:]...))
			if err != nil {
				return err
			}
			list, err := listFiles(files, at, recursive)
			if err != nil {
				return err
			}
			return a.printFiles(list)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVarP(&recursive, "recursive", "R", false, "list the directories below, too")
	return cmd
}

// oneOrTwo wants one argument or two.
func oneOrTwo(cmd *cobra.Command, args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return usageError{fmt.Errorf("want %q, see %q", cmd.UseLine(), cmd.CommandPath()+" --help")}
	}
	return nil
}

// listedFile is a file of an image. A name that is not UTF-8 is not told exactly.
type listedFile struct {
	Path   string        `json:"path"`
	Type   string        `json:"type"` // as find -type has it: d f l c b p s
	Mode   string        `json:"mode"` // 07777, octal
	UID    uint32        `json:"uid"`
	GID    uint32        `json:"gid"`
	Size   int64         `json:"size"`
	Device string        `json:"device,omitempty"` // major:minor
	Time   time.Time     `json:"time"`
	Xattrs erofs.Xattrs  `json:"xattrs,omitempty"` // base64
	Target string        `json:"target,omitempty"`
	Layer  digest.Digest `json:"layer"`

	mode fs.FileMode
}

// listFiles lists what is in a directory, or the file itself.
func listFiles(files *inspect.Files, at overlay.File, recursive bool) ([]listedFile, error) {
	list := []listedFile{}
	err := files.Walk(at.Path, func(f overlay.File) error {
		if f.Path == at.Path && f.Info.IsDir() {
			return nil
		}
		one, err := listed(files, f)
		if err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
		list = append(list, one)
		if f.Info.IsDir() && !recursive {
			return fs.SkipDir
		}
		return nil
	})
	return list, err
}

func listed(files *inspect.Files, f overlay.File) (listedFile, error) {
	attr, err := f.Attr()
	if err != nil {
		return listedFile{}, err
	}
	one := listedFile{
		Path: f.Path, Type: string(typeLetter(f.Info.Mode())), Mode: fmt.Sprintf("%04o", attr.Mode), UID: attr.UID, GID: attr.GID,
		Time: f.Info.ModTime().UTC(), Xattrs: attr.Xattrs, Layer: files.Layer(f).Digest, mode: f.Info.Mode(),
	}
	switch f.Info.Mode().Type() {
	case 0:
		one.Size = f.Info.Size()
	case fs.ModeSymlink:
		one.Size = f.Info.Size()
		one.Target, err = files.ReadLink(f)
	case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
		rdev, err := erofs.RdevOf(f.Info)
		if err != nil {
			return one, err
		}
		one.Device = fmt.Sprintf("%d:%d", rdev>>8&0xfff, rdev&0xff|rdev>>12&0xfff00)
	}
	return one, err
}

func typeLetter(mode fs.FileMode) byte {
	switch mode.Type() {
	case fs.ModeDir:
		return 'd'
	case fs.ModeSymlink:
		return 'l'
	case fs.ModeDevice | fs.ModeCharDevice:
		return 'c'
	case fs.ModeDevice:
		return 'b'
	case fs.ModeNamedPipe:
		return 'p'
	case fs.ModeSocket:
		return 's'
	}
	return 'f'
}

func (a *app) printFiles(list []listedFile) error {
	if a.output == "json" {
		return a.printJSON(list)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, f := range list {
		size := fmt.Sprint(f.Size)
		if f.Device != "" {
			size = f.Device
		}
		name := printable(f.Path)
		if f.Target != "" {
			name += " -> " + printable(f.Target)
		}
		fmt.Fprintf(w, "%s%s\t%d:%d\t%s\t%s\t%s\n", strings.Replace(f.Type, "f", "-", 1), f.Mode, f.UID, f.GID, size, f.Time.Format(time.RFC3339), name)
	}
	return w.Flush()
}
