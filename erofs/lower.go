package erofs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
)

// lowerLink gives the copy of a lower layer's file; all hard links to it share
// one. Where the context does not know it, an empty file stands in and the
// conversion ends in an UnresolvedError.
func (l *layerReader) lowerLink(target string) (*inode, error) {
	if n := l.links[target]; n != nil {
		return n, nil
	}
	if l.opts.Bottom {
		return nil, l.tar.bad("its hard link target " + target + " is not in this layer, and no layer lies below")
	}
	n, err := l.copyUp(target)
	if err != nil {
		return nil, err
	}
	if l.links == nil {
		l.links = map[string]*inode{}
	}
	l.links[target] = n
	return n, l.tree.charge(len(target))
}

func (l *layerReader) copyUp(target string) (*inode, error) {
	var file LowerFile
	known := false
	if l.opts.Context != nil {
		file, known = l.opts.Context.Links[target]
	}
	if !known {
		l.missing = append(l.missing, target)
		return &inode{mode: sIFREG}, nil
	}
	n, err := l.lowerInode(file)
	if err != nil {
		return nil, copyUpError(target, err)
	}
	if file.Type.Type() != 0 {
		return n, nil
	}
	return n, l.layout.lower(n, func(out io.Writer) error { return copyUpError(target, copyContents(out, file)) })
}

func copyUpError(target string, err error) error {
	if err != nil {
		return fmt.Errorf("copy up %s from a lower layer: %w", target, err)
	}
	return nil
}

func (l *layerReader) lowerInode(file LowerFile) (*inode, error) {
	n := &inode{
		mode: file.Mode & 0o7777, uid: file.UID, gid: file.GID,
		sec: file.ModTime.Unix(), nsec: uint32(file.ModTime.Nanosecond()),
	}
	if err := n.setXattrs(file.Xattrs); err != nil {
		return nil, err
	}
	switch file.Type.Type() {
	case 0:
		n.mode |= sIFREG
		n.size = file.Size
		return n, nil
	case fs.ModeSymlink:
		n.mode |= sIFLNK
		return n, l.symlink(n, file.Target)
	case fs.ModeDevice:
		n.mode |= sIFBLK
	case fs.ModeDevice | fs.ModeCharDevice:
		n.mode |= sIFCHR
	case fs.ModeNamedPipe:
		n.mode |= sIFIFO
	case fs.ModeSocket:
		n.mode |= sIFSOCK
	default:
		return nil, fmt.Errorf("a hard link cannot name a %v", file.Type)
	}
	n.data = file.Rdev
	return n, nil
}

// setXattrs takes attributes of a lower layer, where overlayfs' own mean
// something else than here and stay behind.
func (n *inode) setXattrs(attrs Xattrs) error {
	var list []xattr
	for name, value := range attrs {
		x := xattr{name, value}
		if name == opaqueXattr || x.foreign() {
			continue
		}
		if why := x.check(); why != "" {
			return errors.New(why)
		}
		list = append(list, x)
	}
	if sizeOf(list) > maxXattrs {
		return errors.New(tooManyXattrs)
	}
	if len(list) > 0 {
		n.need().merge(list)
	}
	return nil
}

// copyContents writes a lower file's bytes and checks them against its digest.
func copyContents(out io.Writer, file LowerFile) (err error) {
	if file.Open == nil {
		return errors.New("the context holds no way to open it")
	}
	if err := file.Digest.Validate(); err != nil {
		return fmt.Errorf("the context's digest %q of it: %w", file.Digest, err)
	}
	rc, err := file.Open()
	if err != nil {
		return err
	}
	defer rc.Close()
	verifier := file.Digest.Verifier()
	got, err := io.Copy(out, io.TeeReader(io.LimitReader(rc, file.Size+1), verifier))
	if err != nil {
		return err
	}
	if got != file.Size || !verifier.Verified() {
		return fmt.Errorf("its %d bytes are not the %d with digest %s", got, file.Size, file.Digest)
	}
	return nil
}

// lowerLinks lists the hard link targets outside this layer.
func (l *layerReader) lowerLinks() []string {
	return slices.Sorted(maps.Keys(l.links))
}
