package lint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	goerofs "github.com/erofs/go-erofs"
	"github.com/lithify/lithify/erofs"
)

// files are what the rules want to know of an image's.
type files struct {
	ctx  context.Context
	fsys fs.ReadLinkFS
	// contents has them read; those in a device are not at hand.
	contents bool

	whiteouts  names // with opaque directories
	tarMarks   names // .wh.
	marks      names // of overlayfs, that are not the draft's
	disordered names // directories
	redirects  bool
	links      map[int64]*linked // by inode, of files with more than one name
}

// linked is a file that says it has several names.
type linked struct {
	name      string // the first
	said, has int
}

// names are the first of many.
type names struct {
	list []string
	n    int
}

func (n *names) add(name string) {
	if n.n++; len(n.list) < 3 {
		n.list = append(n.list, name)
	}
}

func (n names) String() string {
	s := fmt.Sprintf("%q", n.list)
	if more := n.n - len(n.list); more > 0 {
		s += fmt.Sprintf(" and %d more", more)
	}
	return s
}

const (
	opaque   = "trusted.overlay.opaque"
	redirect = "trusted.overlay.redirect"
	whiteout = "trusted.overlay.whiteout" // of files that are no device 0:0
)

// walk looks at all below a directory.
func (f *files) walk(dir string) error {
	if err := f.ctx.Err(); err != nil {
		return err
	}
	list, err := f.readDir(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	for i, e := range list {
		at := path.Join(dir, e.Name())
		if i > 0 && list[i-1].Name() >= e.Name() && (f.disordered.n == 0 || f.disordered.list[len(f.disordered.list)-1] != dir) {
			f.disordered.add(dir)
		}
		info, err := e.Info()
		if err == nil {
			err = f.look(at, info)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		if info.IsDir() {
			if err := f.walk(at); err != nil {
				return err
			}
		}
	}
	return nil
}

// readDir lists a directory in the image's order.
func (f *files) readDir(name string) ([]fs.DirEntry, error) {
	d, err := f.fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	dir, ok := d.(fs.ReadDirFile)
	if !ok {
		return nil, errors.New("no directory")
	}
	return dir.ReadDir(-1)
}

func (f *files) look(name string, info fs.FileInfo) error {
	attr, err := erofs.AttrOf(info)
	if err != nil {
		return err
	}
	if strings.HasPrefix(path.Base(name), ".wh.") {
		f.tarMarks.add(name)
	}
	value, marked := attr.Xattrs[opaque]
	_, odd := attr.Xattrs[whiteout]
	if odd || marked && (value != "y" || !info.IsDir()) {
		f.marks.add(name)
	}
	if erofs.IsWhiteout(info) || erofs.IsOpaque(info) {
		f.whiteouts.add(name)
	}
	if _, ok := attr.Xattrs[redirect]; ok {
		f.redirects = true
	}
	f.count(name, info)
	switch {
	case info.Mode().Type() == fs.ModeSymlink:
		_, err = f.fsys.ReadLink(name)
	case f.contents && info.Mode().IsRegular():
		err = f.content(name)
	}
	return err
}

// count counts the names of what says that it has several.
func (f *files) count(name string, info fs.FileInfo) {
	st, ok := info.Sys().(*goerofs.Stat)
	if !ok || info.IsDir() || st.Nlink == 1 && f.links[st.Ino] == nil {
		return
	}
	if f.links[st.Ino] == nil {
		f.links[st.Ino] = &linked{name: name, said: int(st.Nlink)}
	}
	f.links[st.Ino].has++
}

func (f *files) content(name string) error {
	r, err := f.fsys.Open(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, contextReader{f.ctx, r})
	return errors.Join(err, r.Close())
}
