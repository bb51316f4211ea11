package archive

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// plain writes the tar of CRI-O and Podman: the changed files without whiteouts.
func (d *changes) plain(w io.Writer) error {
	t := tar.NewWriter(w)
	err := d.each(func(name string, hdr *tar.Header, r io.Reader) error {
		if strings.HasPrefix(path.Base(name), whiteout) {
			return nil
		}
		return copyEntry(t, hdr, r)
	})
	if err != nil {
		return err
	}
	return t.Close()
}

// deletions gives what CRI-O and Podman are to delete once they have put the changed files
// in place. So it can name nothing that is new, and nothing above: of a directory that is
// new as a whole, they are to delete each name that the base image has there.
func (d *changes) deletions(below func(dir string) ([]string, error)) ([]string, error) {
	if !d.layered {
		return d.deleted, nil
	}
	p := planner{dirs: map[string]bool{}, names: map[string]bool{}, below: below}
	var gone, anew []string
	err := d.each(func(name string, hdr *tar.Header, _ io.Reader) error {
		dir, base := path.Split(name)
		dir = strings.TrimSuffix(dir, "/")
		switch {
		case base == opaque:
			anew = append(anew, dir)
		case strings.HasPrefix(base, whiteout):
			gone = append(gone, path.Join(dir, base[len(whiteout):]))
		default:
			p.add(name, hdr.Typeflag == tar.TypeDir)
		}
		return nil
	})
	for _, name := range gone {
		switch {
		case p.dirs[name]:
			anew = append(anew, name)
		case !p.names[name]:
			p.deleted = append(p.deleted, name)
		}
	}
	slices.Sort(anew)
	for i, dir := range anew {
		if err == nil && !slices.ContainsFunc(anew[:i], func(above string) bool { return under(dir, above) }) {
			err = p.replace(dir)
		}
	}
	slices.Sort(p.deleted)
	return slices.Compact(p.deleted), err
}

func under(name, dir string) bool {
	return name == dir || dir == "" || strings.HasPrefix(name, dir+"/")
}

// planner knows what is new.
type planner struct {
	names, dirs map[string]bool
	below       func(dir string) ([]string, error)
	deleted     []string
}

// add notes an entry. The directories above it are there, with or without one.
func (p *planner) add(name string, dir bool) {
	p.names[name] = true
	p.dirs[name] = p.dirs[name] || dir
	for above := path.Dir(name); above != "." && !p.dirs[above]; above = path.Dir(above) {
		p.names[above], p.dirs[above] = true, true
	}
}

// replace deletes what the base image has in a directory and the layer has not.
func (p *planner) replace(dir string) error {
	if p.below == nil {
		return refused(inTar(path.Join(dir, opaque)), "the directory is new as a whole, which CRI-O and Podman can be told only by what the base image has in it; write it with the base image at hand, or for containerd")
	}
	names, err := p.below(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, base := range names {
		name := path.Join(dir, base)
		switch {
		case p.dirs[name]:
			err = errors.Join(err, p.replace(name))
		case !p.names[name]:
			p.deleted = append(p.deleted, name)
		}
	}
	return err
}
