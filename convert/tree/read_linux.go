package tree

import (
	"bytes"
	"cmp"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// inode is one file, of a stack of file systems too.
type inode struct{ dev, ino uint64 }

// Read reads a directory with all that lies in it. Reading every xattr needs root.
func Read(ctx context.Context, root string) (Tree, error) {
	t := Tree{}
	names := map[inode][]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err = cmp.Or(err, ctx.Err()); err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err == unix.ENOENT && name != "." {
			return nil // overlayfs lists the whiteouts of a directory that one layer alone has
		} else if err != nil {
			return &fs.PathError{Op: "lstat", Path: path, Err: err}
		}
		if t[name], err = dirEntry(path, &st); err != nil {
			return err
		}
		file := inode{uint64(st.Dev), st.Ino}
		names[file] = append(names[file], name)
		return nil
	})
	for _, paths := range names {
		t.Link(paths)
	}
	return t, err
}

func dirEntry(path string, st *unix.Stat_t) (e Entry, err error) {
	e = Entry{
		Type: typeOf(st.Mode), Mode: uint16(st.Mode & 0o7777), UID: st.Uid, GID: st.Gid,
		Nlink: uint64(st.Nlink), Mtime: time.Unix(st.Mtim.Unix()).UTC(),
	}
	switch {
	case e.Type == fs.ModeSymlink:
		e.Size = st.Size
		e.Target, err = os.Readlink(path)
	case e.Type&fs.ModeDevice != 0:
		major, minor := unix.Major(st.Rdev), unix.Minor(st.Rdev)
		e.Rdev = minor&0xff | major<<8 | minor&^0xff<<12
	case e.Type == 0:
		e.Size = st.Size
		e.Sum, err = sumPath(path)
	}
	if err != nil {
		return e, err
	}
	e.Xattrs, err = xattrs(path)
	return e, err
}

func typeOf(mode uint32) fs.FileMode {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return fs.ModeDir
	case unix.S_IFLNK:
		return fs.ModeSymlink
	case unix.S_IFCHR:
		return fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFBLK:
		return fs.ModeDevice
	case unix.S_IFIFO:
		return fs.ModeNamedPipe
	case unix.S_IFSOCK:
		return fs.ModeSocket
	}
	return 0
}

func xattrs(path string) (map[string]string, error) {
	buf := make([]byte, 1<<16)
	n, err := unix.Llistxattr(path, buf)
	if err != nil || n == 0 {
		return nil, err
	}
	m := map[string]string{}
	value := make([]byte, 1<<16)
	for name := range bytes.SplitSeq(bytes.TrimSuffix(buf[:n], []byte{0}), []byte{0}) {
		k, err := unix.Lgetxattr(path, string(name), value)
		if err != nil {
			return nil, &fs.PathError{Op: "lgetxattr " + string(name), Path: path, Err: err}
		}
		m[string(name)] = string(value[:k])
	}
	return m, nil
}

func sumPath(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return Sum(f)
}
