package convert

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/lithify/lithify/erofs"
)

// stack is the layers below one layer, topmost first: what a container sees
// where that layer says nothing. It follows overlayfs: a whiteout hides, an
// opaque directory hides what is below it, anything else covers.
type stack []*view

// found is a name of the stack.
type found struct {
	view *view
	info fs.FileInfo
}

// lookup finds name ("." is the root). It gives nil where a container would see
// nothing, and an error where a parent of name is no directory.
func (s stack) lookup(ctx context.Context, name string) (*found, error) {
	for _, v := range s {
		f, hidden, err := v.lookup(ctx, name)
		if f != nil || hidden || err != nil {
			return f, err
		}
	}
	return nil, nil
}

// lookup finds name in one layer. hidden says that whatever lies below this
// layer under that name cannot be seen.
func (v *view) lookup(ctx context.Context, name string) (f *found, hidden bool, err error) {
	for _, p := range prefixes(name) {
		info, err := v.lstat(ctx, p)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, hidden, nil
		}
		if err != nil {
			return nil, false, fmt.Errorf("look up %s in layer %s: %w", p, v.layer.Digest, err)
		}
		if erofs.IsWhiteout(info) {
			return nil, true, nil
		}
		if p == name {
			return &found{v, info}, false, nil
		}
		if !info.IsDir() {
			return nil, false, refused(name, "lies below %s, which is no directory but a %s in a layer further down; rebuild the image with the path resolved", p, kindOf(info.Mode()))
		}
		hidden = hidden || erofs.IsOpaque(info)
	}
	return nil, hidden, nil
}

// prefixes lists the directories on the way to name, from the root, and name.
func prefixes(name string) []string {
	out := []string{"."}
	if name == "." {
		return out
	}
	for i, r := range name {
		if r == '/' {
			out = append(out, name[:i])
		}
	}
	return append(out, name)
}

func kindOf(mode fs.FileMode) string {
	switch mode.Type() {
	case 0:
		return "file"
	case fs.ModeSymlink:
		return "symbolic link"
	case fs.ModeNamedPipe:
		return "fifo"
	case fs.ModeSocket:
		return "socket"
	}
	return "device"
}

// resolve answers a layer's needs from the layers below it. It gives nil where
// the layers below agree with what a conversion without a context assumes.
func (s stack) resolve(ctx context.Context, needs erofs.Needs) (*erofs.Context, error) {
	dirs, err := s.resolveDirs(ctx, needs.Dirs)
	if err != nil {
		return nil, err
	}
	links, err := s.resolveLinks(ctx, needs.Links)
	if err != nil {
		return nil, err
	}
	var names []string
	if needs.RootNames {
		if names, err = s.rootNames(ctx); err != nil {
			return nil, err
		}
	}
	if len(dirs) == 0 && len(links) == 0 && names == nil {
		return nil, nil
	}
	return &erofs.Context{Dirs: dirs, Links: links, RootNames: names}, nil
}

// rootNames lists what a container sees in the root, sorted. It is never nil.
func (s stack) rootNames(ctx context.Context) ([]string, error) {
	names := []string{}
	said := map[string]bool{}
	for _, v := range s {
		if _, err := v.lstat(ctx, "."); err != nil {
			return nil, err
		}
		list, err := fs.ReadDir(v.meta, ".")
		if err != nil {
			return nil, fmt.Errorf("list the root of layer %s: %w", v.layer.Digest, err)
		}
		for _, e := range list {
			if said[e.Name()] {
				continue
			}
			said[e.Name()] = true
			info, err := v.lstat(ctx, e.Name())
			if err != nil {
				return nil, err
			}
			if !erofs.IsWhiteout(info) {
				names = append(names, e.Name())
			}
		}
	}
	slices.Sort(names)
	return names, nil
}

func (s stack) resolveDirs(ctx context.Context, names []string) (map[string]erofs.Attr, error) {
	dirs := map[string]erofs.Attr{}
	for _, name := range names {
		f, err := s.lookup(ctx, name)
		if err != nil {
			return nil, err
		}
		if f == nil {
			continue
		}
		if !f.info.IsDir() {
			return nil, refused(path.Join(name, "*"), "the layer's entries lie below %s, which is a %s in a layer further down; rebuild the image with the path resolved", name, kindOf(f.info.Mode()))
		}
		attr, err := erofs.AttrOf(f.info)
		if err != nil {
			return nil, err
		}
		if !attr.IsDefaultDir() {
			dirs[name] = attr
		}
	}
	return dirs, nil
}

func (s stack) resolveLinks(ctx context.Context, names []string) (map[string]erofs.LowerFile, error) {
	links := map[string]erofs.LowerFile{}
	for _, name := range names {
		f, err := s.lookup(ctx, name)
		if err != nil {
			return nil, err
		}
		if f == nil {
			return nil, refused(name, "a hard link names it, and neither this layer nor one below holds it")
		}
		if f.info.IsDir() {
			return nil, refused(name, "a hard link names it, and it is a directory")
		}
		lower, err := f.view.lowerFile(ctx, name, f.info)
		if err != nil {
			return nil, fmt.Errorf("copy up %s: %w", name, err)
		}
		links[name] = lower
	}
	return links, nil
}
