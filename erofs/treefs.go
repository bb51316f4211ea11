package erofs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	goerofs "github.com/erofs/go-erofs"
)

// treeFS guards go-erofs v0.3.1 against images from outside: what panics there
// becomes an error here.
type treeFS struct {
	img fs.ReadLinkFS
}

func newTreeFS(img fs.FS) (fs.ReadLinkFS, error) {
	links, ok := img.(fs.ReadLinkFS)
	if !ok {
		return nil, errors.New("go-erofs does not read symbolic links")
	}
	return treeFS{links}, nil
}

// guard turns a panic into an error that names the path.
func guard(op, name string, err *error) {
	if v := recover(); v != nil {
		*err = &fs.PathError{Op: op, Path: name, Err: fmt.Errorf("damaged EROFS image: %v", v)}
	}
}

func (t treeFS) Open(name string) (f fs.File, err error) {
	defer guard("open", name, &err)
	// Names in an image are bytes, which fs.ValidPath alone would not have.
	if !fs.ValidPath(strings.ToValidUTF8(name, "?")) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	f, err = t.img.Open(name)
	if err != nil {
		return nil, err
	}
	d, ok := f.(fs.ReadDirFile)
	if !ok {
		info, err := f.Stat()
		if err != nil {
			return nil, errors.Join(&fs.PathError{Op: "open", Path: name, Err: err}, f.Close())
		}
		return &treeFile{f, name, info.Size()}, nil
	}
	if err := checkDir(f); err != nil {
		return nil, errors.Join(&fs.PathError{Op: "open", Path: name, Err: err}, f.Close())
	}
	return treeDir{&treeFile{f, name, 0}, d}, nil
}

// checkDir refuses directories that are not flat. Nobody makes them, and a chunk
// index could name one block over and over: a listing far larger than its image.
func checkDir(f fs.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*goerofs.Stat)
	if !ok || st.InodeLayout != layoutFlatPlain && st.InodeLayout != layoutFlatInline {
		return errors.New("damaged EROFS image: a directory that is not flat")
	}
	return nil
}

func (t treeFS) Lstat(name string) (info fs.FileInfo, err error) {
	defer guard("lstat", name, &err)
	return t.img.Lstat(name)
}

func (t treeFS) ReadLink(name string) (target string, err error) {
	defer guard("readlink", name, &err)
	return t.img.ReadLink(name)
}

type treeFile struct {
	fs.File
	name string
	left int64 // of a regular file's bytes
}

func (f *treeFile) Stat() (info fs.FileInfo, err error) {
	defer guard("stat", f.name, &err)
	return f.File.Stat()
}

// Read does not take the end of an image, or of the part at hand, for that of a file.
func (f *treeFile) Read(p []byte) (n int, err error) {
	defer guard("read", f.name, &err)
	n, err = f.File.Read(p)
	if f.left -= int64(n); err == io.EOF && f.left > 0 {
		err = &fs.PathError{Op: "read", Path: f.name, Err: io.ErrUnexpectedEOF}
	}
	return n, err
}

type treeDir struct {
	*treeFile
	dir fs.ReadDirFile
}

func (d treeDir) ReadDir(n int) (list []fs.DirEntry, err error) {
	defer guard("readdir", d.name, &err)
	return d.dir.ReadDir(n)
}
