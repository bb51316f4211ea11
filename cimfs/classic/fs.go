package classic

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf16"
)

// node is a file that was found.
type node struct {
	*file
	c    *CIM
	id   fileID
	name string // as the CIM has it
}

// Open opens a file, which is an [io.ReaderAt] and an [io.Seeker], too, or a directory.
func (c *CIM) Open(name string) (fs.File, error) {
	n, err := c.walk(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	if n.isDir() {
		return &openDir{node: n, path: name}, nil
	}
	r, err := c.content(n.Default)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &openFile{r, n}, nil
}

// Stat says what is known of a file. Sys of the answer is a [*Metadata].
func (c *CIM) Stat(name string) (fs.FileInfo, error) {
	n, err := c.walk(name)
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	info, err := n.Info()
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return info, nil
}

// ReadDir lists a directory, sorted by name. Info of an entry is as [CIM.Stat] has it.
func (c *CIM) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := c.walk(name)
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	list, err := n.list(name)
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	return list, nil
}

// walk finds what a path names. Directories that are reparse points are walked through for
// what they hold.
func (c *CIM) walk(name string) (*node, error) {
	if !fs.ValidPath(name) {
		return nil, fs.ErrInvalid
	}
	root, err := c.file(c.fs.RootDirectory)
	if err != nil {
		return nil, err
	}
	at := &node{root, c, c.fs.RootDirectory, "."}
	if name == "." {
		return at, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if at, err = at.child(part); err != nil {
			return nil, err
		}
	}
	return at, nil
}

// tooLong reports whether Windows takes no path of such a length.
func tooLong(name string) bool {
	return len(name) > maxPath && len(utf16.Encode([]rune(name))) > maxPath
}

// child is a file of a directory.
func (n *node) child(name string) (*node, error) {
	if !n.isDir() {
		return nil, fs.ErrNotExist
	}
	l, err := n.c.children(n.file)
	if err != nil {
		return nil, err
	}
	i, err := n.c.find(l, name)
	if err != nil {
		return nil, err
	}
	return n.link(l, i)
}

// links is the link table of a directory, in memory.
func (n *node) links() (*links, error) {
	if !n.isDir() {
		return nil, errors.New("not a directory")
	}
	l, err := n.c.children(n.file)
	if err != nil {
		return nil, err
	}
	return l.whole()
}

// list is what a directory holds; dir is what it was asked for by.
func (n *node) list(dir string) ([]fs.DirEntry, error) {
	l, err := n.links()
	if err != nil {
		return nil, err
	}
	var list []fs.DirEntry
	for i := range l.Count {
		entry, err := n.link(l, i)
		if err != nil {
			return nil, err
		}
		if tooLong(path.Join(dir, entry.name)) {
			return nil, damage("a path of more than %d characters", maxPath)
		}
		list = append(list, entry)
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, nil
}

// openFile is an open file.
type openFile struct {
	*io.SectionReader
	node *node
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.node.Info() }
func (f *openFile) Close() error               { return nil }

// openDir is an open directory.
type openDir struct {
	node *node
	path string
	list []fs.DirEntry // what was not read yet
	read bool
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.node.Info() }
func (d *openDir) Close() error               { return nil }

func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.path, Err: errors.New("is a directory")}
}

func (d *openDir) ReadDir(n int) (list []fs.DirEntry, err error) {
	if !d.read {
		if d.list, err = d.node.list(d.path); err != nil {
			return nil, &fs.PathError{Op: "readdir", Path: d.path, Err: err}
		}
		d.read = true
	}
	if n > 0 && len(d.list) == 0 {
		return nil, io.EOF
	}
	if n <= 0 || n > len(d.list) {
		n = len(d.list)
	}
	list, d.list = d.list[:n], d.list[n:]
	return list, nil
}
