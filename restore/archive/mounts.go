package archive

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// MountPoint is a mount in the processes' mount namespace.
type MountPoint struct {
	Path     string // absolute
	Type     string // as Linux names it; "" of one that CRIU knows no name for
	Root     string // what of the file system is mounted
	ReadOnly bool
	// Key is set of one that was not the container's, to the path by which whoever restores
	// says what it is.
	Key string

	id, parent, device uint64
}

// Outside says that the mount was not the container's.
func (m MountPoint) Outside() bool { return m.Key != "" }

// fstypes are the names of enum fstype in mnt.proto that a container may have.
var fstypes = map[uint64]string{
	1: "proc", 2: "sysfs", 3: "devtmpfs", 5: "tmpfs", 6: "devpts", 12: "cgroup", 14: "mqueue", 17: "overlay", 23: "cgroup2",
}

const msReadOnly = 1

func (r *rights) mounts() error {
	names, err := r.named("mountpoints")
	if err != nil {
		return err
	}
	if len(names) > 1 {
		return refused(path.Join(r.dir, names[1]), "the processes are in more than one mount namespace, which is not restored")
	}
	for _, name := range names {
		if err := r.messages(name, magics["mountpoints"], r.mount); err != nil {
			return err
		}
		slices.SortStableFunc(r.Mounts, func(a, b MountPoint) int { return strings.Compare(a.Path, b.Path) })
		if err := r.tree(); err != nil {
			return &EntryError{path.Join(r.dir, name), "its mounts are none that a runtime makes", err}
		}
	}
	return nil
}

func (r *rights) mount(b []byte) error {
	f, err := parse(b)
	if err == nil {
		// Without the last CRIU takes a mount that is read-only for one that is not.
		err = f.required(1, 2, 3, 4, 5, 6, 7, 17)
	}
	if err != nil {
		return err
	}
	m := MountPoint{
		Path: f.text(7), Type: fstypes[f.word(1)], Root: f.text(6),
		// Those of the file system, field 17, count only where CRIU mounts that first.
		ReadOnly: f.word(5)&msReadOnly != 0,
		Key:      f.text(18),
		id:       f.word(2), parent: f.word(4), device: f.word(3),
	}
	if f.number(13) != 0 { // CRIU before 3.13 had the key there
		m.Key = m.Root
	}
	switch {
	case !absolute(m.Path), !absolute(m.Root):
		return fmt.Errorf("a mount of %q is at %q", m.Root, m.Path)
	case m.Outside() && !absolute(m.Key): // as CRIU:EXTERNAL_DEV, by which it mounts any device of the machine's
		return fmt.Errorf("the mount at %s comes from outside, as %q, which is no path", m.Path, m.Key)
	case (m.Type == "cgroup" || m.Type == "cgroup2") && !m.Outside() && strings.Contains(f.text(9), "release_agent"):
		return fmt.Errorf("the mount at %s names a program that the kernel is to run", m.Path)
	}
	r.Mounts = append(r.Mounts, m)
	return nil
}

// absolute says that a path is one that leads nowhere else than it says.
func absolute(p string) bool { return path.IsAbs(p) && path.Clean(p) == p }

// tree looks whether no mount hides or shows another one. CRIU mounts what the image says,
// in its order; [Rights.Beyond] goes by paths.
func (r *rights) tree() error {
	ids := map[uint64]string{}
	for i, m := range r.Mounts {
		if i > 0 && r.Mounts[i-1].Path == m.Path {
			return fmt.Errorf("two are at %s", m.Path)
		}
		if other, ok := ids[m.id]; ok { // and which one is the parent is CRIU's choice
			return fmt.Errorf("those at %s and %s have the number %d", other, m.Path, m.id)
		}
		ids[m.id] = m.Path
		if m.Path == "/" {
			continue
		}
		if on, ok := r.on(m.Path, i); ok && on.id != m.parent {
			return fmt.Errorf("that at %s is not on that at %s", m.Path, on.Path)
		}
		for j, o := range r.Mounts {
			if i != j && !m.Outside() && m.device == o.device && lies(m.Root, o.Root) && !m.shares(o) {
				return fmt.Errorf("that at %s shows what is at %s", m.Path, o.Path)
			}
		}
	}
	return nil
}

// shares says that one may be made from the other: both are of a file system of the
// container's own. A part of one could be reached by links only that are the container's, and
// CRIU would follow these on the machine.
func (m MountPoint) shares(o MountPoint) bool {
	kernels := m.Type != "tmpfs" && m.Type != "" && m.Type != "overlay"
	return !o.Outside() && o.Path != "/" && m.Type == o.Type && (kernels || m.Root == "/")
}

// on is the mount that a path lies on, among the first n.
func (r *rights) on(at string, n int) (MountPoint, bool) {
	for i := n - 1; i >= 0; i-- {
		if lies(at, r.Mounts[i].Path) {
			return r.Mounts[i], true
		}
	}
	return MountPoint{}, false
}

func lies(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/")
}
