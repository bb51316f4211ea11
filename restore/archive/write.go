package archive

import (
	"archive/tar"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"time"
)

// WriteOptions say how an archive is written. The zero value keeps the format.
type WriteOptions struct {
	Format Format // empty: that of the checkpoint
	// Below lists what the base image has in a directory, which CRI-O and Podman need
	// for directories that were made anew; fs.ErrNotExist where it has none. nil: such
	// a directory is refused.
	Below  func(dir string) ([]string, error)
	Limits Limits
	// WithoutPages leaves the files of pages out, and puts [PagesFile] in, which says where
	// they are: package pages. No engine restores such an archive.
	WithoutPages bool
}

// Write writes a checkpoint as an archive, an uncompressed tar, of any engine. dir is as
// [Read] makes it, or holds at least CRIU's images in [ImagesDir] and, if c.Format is
// [Containerd], the changed files as an OCI layer in [ChangesFile]; the rest is
// of c. The same checkpoint gives the same bytes.
//
// What an engine needs and c has not is an error that is an errdefs.ErrFailedPrecondition.
//
// The changed files of an archive for containerd are not compressed, where containerd itself
// uses gzip: whoever reads them looks at the first bytes, and gzip would take the time and
// spoil the compression of the whole.
func Write(ctx context.Context, w io.Writer, dir string, c *Checkpoint, o WriteOptions) (err error) {
	o.Format = cmp.Or(o.Format, c.Format)
	d, err := c.openChanges(ctx, dir, o.Limits)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	a := archiver{ctx: ctx, tar: tar.NewWriter(w), changes: d, time: c.Checkpointed.UTC().Truncate(time.Second), Checkpoint: c, o: o}
	// What tells what it is comes first, and the largest last.
	for _, step := range []func() error{a.metadata, a.logs, a.files, func() error { return a.images(ImagesDir) }, func() error { return a.images(ParentDir) }, a.tar.Close} {
		if err := step(); err != nil {
			return fmt.Errorf("write a checkpoint of %s: %w", o.Format, err)
		}
	}
	return nil
}

type archiver struct {
	*Checkpoint
	ctx     context.Context
	tar     *tar.Writer
	changes *changes
	time    time.Time // of all entries
	o       WriteOptions
}

func (a *archiver) metadata() error {
	docs, err := a.documents()
	if err != nil {
		return err
	}
	for _, d := range docs {
		raw, err := json.Marshal(d.value)
		if err != nil {
			return err
		}
		if err := a.header(d.name, int64(len(raw))); err != nil {
			return err
		}
		if _, err := a.tar.Write(raw); err != nil {
			return err
		}
	}
	return nil
}

func (a *archiver) header(name string, size int64) error {
	return a.tar.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: size, Mode: 0o600, ModTime: a.time})
}

// logs are what was printed, by the container and by CRIU, and CRIU's statistics.
func (a *archiver) logs() error {
	log := map[Format]string{Containerd: LogFile, CRIO: "io.kubernetes.cri-o.LogPath", Podman: "ctr.log"}[a.o.Format]
	stats := StatsFile
	if _, err := a.changes.root.Lstat(stats); err != nil {
		stats = path.Join(ImagesDir, StatsFile) // where CRIU had no work directory of its own
	}
	if a.o.WithoutPages {
		if err := a.copy(PagesFile, PagesFile); err != nil {
			return err
		}
	}
	for _, f := range []struct{ from, to string }{{stats, StatsFile}, {DumpLogFile, DumpLogFile}, {LogFile, log}, {ShmFile, ShmFile}} {
		if err := a.copy(f.from, f.to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// copy takes over a file as it is.
func (a *archiver) copy(from, to string) (err error) {
	info, err := a.changes.root.Lstat(from)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return refused(from, "it is no regular file")
	}
	f, err := a.changes.root.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := a.header(to, info.Size()); err != nil {
		return err
	}
	if err := context.Cause(a.ctx); err != nil {
		return err
	}
	n, err := io.CopyN(a.tar, f, info.Size())
	if err == io.EOF {
		err = fmt.Errorf("%s shrank from %d bytes to %d while it was read: %w", from, info.Size(), n, io.ErrUnexpectedEOF)
	}
	return err
}

// files writes the tar of changed files: once to find out how large it is, and once more.
func (a *archiver) files() error {
	if _, err := a.changes.root.Lstat(ChangesFile); errors.Is(err, fs.ErrNotExist) && len(a.changes.deleted) == 0 {
		return nil
	}
	write := a.changes.plain
	if a.o.Format == Containerd {
		write = a.changes.layer
	}
	var size counter
	if err := write(&size); err != nil {
		return err
	}
	if err := a.header(ChangesFile, size.n); err != nil {
		return err
	}
	return write(a.tar)
}

// images writes CRIU's images, those of memory last.
func (a *archiver) images(dir string) error {
	entries, err := fs.ReadDir(a.changes.root.FS(), dir)
	if errors.Is(err, fs.ErrNotExist) && dir == ParentDir {
		return nil
	}
	if err != nil {
		return err
	}
	pages := func(e fs.DirEntry) int {
		if kindOf(e.Name()) == "pages" {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(entries, func(a, b fs.DirEntry) int { return pages(a) - pages(b) })
	if err := a.tar.WriteHeader(&tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o700, ModTime: a.time}); err != nil {
		return err
	}
	for _, e := range entries {
		if a.o.WithoutPages && pages(e) > 0 {
			continue
		}
		name := path.Join(dir, e.Name())
		switch {
		case name == parentLink:
			err = a.tar.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: parentTarget, Mode: 0o777, ModTime: a.time})
		case !imageName.MatchString(e.Name()):
			err = refused(name, "CRIU makes no file of this name")
		default:
			err = a.copy(name, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
