package overlay

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// maxLinks is how many symbolic links Linux follows on one way (MAXSYMLINKS).
const maxLinks = 40

// Stat finds a file and follows symbolic links, on the way and at its end, as a process in the
// container would: ".." of the root is the root. name may begin with a slash.
func (f FS) Stat(name string) (File, error) {
	at, err := f.root()
	if err != nil {
		return at, err
	}
	left, links := parts(name), 0
	for len(left) > 0 {
		if !at.Info.IsDir() {
			return File{}, &fs.PathError{Op: "stat", Path: name, Err: fmt.Errorf("%s is no directory: %w", at.Path, fs.ErrNotExist)}
		}
		part := left[0]
		left = left[1:]
		if part == ".." {
			if at, err = f.Lstat(path.Dir(at.Path)); err != nil {
				return File{}, err
			}
			continue
		}
		next, err := f.child(at, part)
		switch {
		case err != nil:
			return File{}, err
		case next == nil:
			return File{}, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
		case next.Info.Mode().Type() != fs.ModeSymlink:
			at = *next
			continue
		}
		if links++; links > maxLinks {
			return File{}, &fs.PathError{Op: "stat", Path: name, Err: fmt.Errorf("more than %d symbolic links: %w", maxLinks, fs.ErrInvalid)}
		}
		target, err := f.ReadLink(*next)
		if err != nil {
			return File{}, err
		}
		if strings.HasPrefix(target, "/") {
			if at, err = f.root(); err != nil {
				return File{}, err
			}
		}
		left = append(parts(target), left...)
	}
	return at, nil
}

// parts are the names on a way, without those that lead nowhere.
func parts(name string) (list []string) {
	for part := range strings.SplitSeq(name, "/") {
		if part != "" && part != "." {
			list = append(list, part)
		}
	}
	return list
}
