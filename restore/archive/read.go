package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
)

// Read unpacks a checkpoint archive, a tar with or without gzip or zstd, of any engine
// into dir: CRIU's images and the files that it knows, all of mode 0600. dir is made, or
// is there and empty. After an error it is as it was before. r is read to its end.
//
// The archive is refused as a whole, by an [*EntryError], if it has links (but for
// checkpoint/parent), devices, fifos, names that lead outside, a name twice, or files
// among CRIU's that CRIU does not make. What is in the files is checked by [Validate].
func Read(ctx context.Context, r io.Reader, dir string, limits Limits) (_ *Checkpoint, err error) {
	root, undo, err := openEmpty(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	defer func() {
		if err != nil {
			err = errors.Join(err, undo())
		}
	}()
	s, err := newStream(ctx, r, limits.withDefaults())
	if err != nil {
		return nil, err
	}
	defer s.close()
	u := unpacker{stream: s, tar: tar.NewReader(s), root: root, seen: map[string]bool{}}
	if err := u.all(func(*tar.Header) {}); err != nil {
		return nil, err
	}
	c, err := load(root, s.limits)
	if err != nil {
		return nil, err
	}
	c.Ignored = u.ignored
	return c, nil
}

// openEmpty makes dir, or finds that it is empty. undo makes it what it was.
func openEmpty(dir string) (root *os.Root, undo func() error, err error) {
	err = os.Mkdir(dir, 0o700)
	made := err == nil
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, nil, err
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("directory %s is not empty: %w", dir, fs.ErrExist)
	}
	if err == nil {
		root, err = os.OpenRoot(dir)
	}
	return root, func() error { return empty(root, dir, made) }, err
}

func empty(root *os.Root, dir string, made bool) error {
	if made {
		return os.RemoveAll(dir)
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, root.RemoveAll(e.Name()))
	}
	return err
}

// shownIgnored bounds how many names of what was not unpacked are told.
const shownIgnored = 32

// unpacker takes an archive apart.
type unpacker struct {
	*stream
	tar     *tar.Reader
	root    *os.Root
	seen    map[string]bool
	ignored []string
}

// all unpacks every entry, once rename has seen it.
func (u *unpacker) all(rename func(*tar.Header)) error {
	for entries := int64(1); ; entries++ {
		from := u.n
		hdr, err := u.tar.Next()
		if err == io.EOF {
			if !u.whole(from) {
				return &EntryError{u.at, "the archive ends after it without the mark of its end, fetch it again", io.ErrUnexpectedEOF}
			}
			return u.trailer()
		}
		if err != nil {
			return u.broken(err)
		}
		if u.at = hdr.Name; entries > u.limits.Entries {
			return &LimitError{u.at, "entries", u.limits.Entries}
		}
		if hdr.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		rename(hdr)
		if err := u.entry(hdr); err != nil {
			return err
		}
	}
}

// broken tells damage of the archive from errors of whoever delivers it.
func (u *unpacker) broken(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, tar.ErrHeader) {
		return &EntryError{u.at, "the archive is damaged at or after it, fetch it again", err}
	}
	return err
}

func (u *unpacker) entry(hdr *tar.Header) error {
	if sparse(hdr) {
		return refused(hdr.Name, "it is a sparse file, which no engine writes; write the archive without them")
	}
	where, name, err := locate(hdr, u.limits)
	if err != nil {
		return err
	}
	if u.seen[name] {
		return refused(hdr.Name, "there are two of it, and which one counts depends on the reader; make the checkpoint anew")
	}
	u.seen[name] = true
	switch where {
	case directory:
		return u.mkdir(name)
	case link:
		return u.parent(name)
	case metadata, payload:
		return u.file(hdr, where, name)
	}
	if name != "." && len(u.ignored) < shownIgnored {
		u.ignored = append(u.ignored, name)
	}
	if _, err := io.Copy(io.Discard, u.tar); err != nil {
		return u.broken(err)
	}
	return nil
}

// mkdir makes a directory that may be there because a file in it came before.
func (u *unpacker) mkdir(name string) error {
	err := u.root.Mkdir(name, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// parent links the images to those of an earlier dump: CRIU looks for it there.
func (u *unpacker) parent(name string) error {
	if err := u.mkdir(ImagesDir); err != nil {
		return err
	}
	return u.root.Symlink(parentTarget, name)
}

func (u *unpacker) file(hdr *tar.Header, where place, name string) error {
	if where == metadata && hdr.Size > u.limits.JSON {
		return &LimitError{hdr.Name, "bytes of metadata", u.limits.JSON}
	}
	if dir := path.Dir(name); dir != "." {
		if err := u.mkdir(dir); err != nil {
			return err
		}
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, u.tar); err != nil {
		return errors.Join(u.broken(err), f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	return u.root.Chtimes(name, hdr.ModTime, hdr.ModTime)
}
