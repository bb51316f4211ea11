package archive

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// Rights are what the processes in CRIU's images will be able to do. CRIU gives it back to
// them as root, whatever the spec of the container says: capabilities, namespaces, mounts. Who
// restores has to compare, see [Rights.Beyond].
type Rights struct {
	// Capabilities are the bits of those that any process has, might get, or may pass on.
	Capabilities uint64
	// Namespaces are the kinds of those that the processes have to themselves. Of the others
	// CRIU leaves them in its own, which are the machine's.
	Namespaces []string
	Mounts     []MountPoint // sorted by their paths, so that the root is the first
}

// MountPoint is a mount in the processes' mount namespace.
type MountPoint struct {
	Path     string // absolute
	Type     string // as Linux names it; "" of one that CRIU knows no name for
	Root     string // what of the file system is mounted
	ReadOnly bool
	// Outside says that it was not the container's: whoever restores says what it is.
	Outside bool
}

// Rights reads them from a directory that [Read] filled and [Validate] has passed. What no
// runtime gives a container is an [*EntryError]: a process without credentials, which
// CRIU would leave its own; one in another control group than the container's, or in a
// namespace of the machine where the first is not; more than one mount namespace.
func ReadRights(dir string) (*Rights, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	r := rights{imageDir: imageDir{root, ImagesDir}}
	for _, read := range []func() error{r.processes, r.mounts, r.cgroups} {
		if err := read(); err != nil {
			return nil, err
		}
	}
	return &r.Rights, nil
}

type rights struct {
	imageDir
	Rights
	machine fields // the namespaces that CRIU ran in
	first   string // process
}

// namespaces are the fields of task_kobj_ids_entry, by the names of the runtime spec.
var namespaces = []struct {
	field protowire.Number
	kind  string
}{{5, "pid"}, {6, "network"}, {7, "ipc"}, {8, "uts"}, {9, "mount"}, {10, "user"}, {11, "cgroup"}, {12, "time"}}

func (r *rights) processes() error {
	inventory, err := r.message(inventoryFile, magicInventory)
	if err != nil {
		return err
	}
	if r.machine, err = inventory.only(3); err != nil {
		return err
	}
	return r.messages("pstree.img", magics["pstree"], func(m []byte) error {
		f, err := parse(m)
		if err != nil {
			return err
		}
		threads, err := f.numbers(5)
		if err != nil {
			return err
		}
		return r.process(f.number(1), threads)
	})
}

func (r *rights) process(pid uint64, threads []uint64) error {
	dead, err := r.credentials(pid)
	if dead || err != nil {
		return err
	}
	for _, id := range threads {
		if _, err := r.credentials(id); err != nil {
			return err
		}
	}
	name := "ids-" + strconv.FormatUint(pid, 10) + ".img"
	ids, err := r.message(name, magics["ids"])
	if err != nil {
		return err
	}
	var own []string
	for _, ns := range namespaces {
		if ids.has(ns.field) && ids.number(ns.field) != r.machine.number(ns.field) {
			own = append(own, ns.kind)
		}
	}
	switch {
	case r.first == "":
		r.first, r.Namespaces = name, own
	case !slices.Equal(own, r.Namespaces):
		return refused(path.Join(r.dir, name), "the process has other namespaces to itself (%s) than the first one (%s), which no runtime makes", strings.Join(own, ", "), strings.Join(r.Namespaces, ", "))
	}
	return nil
}

// credentials adds those of a thread (core.proto, creds.proto).
func (r *rights) credentials(id uint64) (dead bool, err error) {
	name := "core-" + strconv.FormatUint(id, 10) + ".img"
	core, err := r.message(name, magics["core"])
	if err != nil {
		return false, err
	}
	task, err := core.only(3)
	if err != nil {
		return false, err
	}
	if task.number(1) == taskDead {
		return true, nil
	}
	thread, err := core.only(5)
	if err != nil {
		return false, err
	}
	creds, err := thread.only(10)
	if err != nil {
		return false, err
	}
	if !thread.has(10) || creds.required(9, 10, 11, 12) != nil {
		return false, refused(path.Join(r.dir, name), "the process has no credentials, so that CRIU would leave it all of root's")
	}
	for _, set := range []protowire.Number{9, 10, 11, 12, 19} { // inheritable, permitted, effective, bounding, ambient
		words, err := creds.numbers(set)
		if err != nil {
			return false, err
		}
		for i, w := range words {
			if i > 1 && w != 0 {
				return false, refused(path.Join(r.dir, name), "the process has capabilities beyond the 64th")
			}
			r.Capabilities |= w << (32 * min(i, 1))
		}
	}
	return false, nil
}

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
	}
	slices.SortStableFunc(r.Mounts, func(a, b MountPoint) int { return strings.Compare(a.Path, b.Path) })
	return nil
}

func (r *rights) mount(m []byte) error {
	f, err := parse(m)
	if err == nil {
		err = f.required(1, 5, 6, 7)
	}
	if err != nil {
		return err
	}
	at, of := f.text(7), f.text(6)
	if path.Clean(at) != at || !path.IsAbs(at) || !path.IsAbs(of) {
		return fmt.Errorf("a mount of %q is at %q", of, at)
	}
	r.Mounts = append(r.Mounts, MountPoint{
		Path: at, Type: fstypes[f.number(1)], Root: path.Clean(of),
		ReadOnly: f.number(5)&msReadOnly != 0 || f.number(17)&msReadOnly != 0,
		Outside:  f.text(18) != "" || f.number(13) != 0,
	})
	return nil
}

// named lists the images of a kind.
func (d imageDir) named(kind string) (names []string, err error) {
	dir, err := d.root.Open(d.dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	all, err := dir.Readdirnames(-1)
	for _, name := range all {
		if strings.HasSuffix(name, ".img") && kindOf(name) == kind {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, err
}

// cgroups looks whether each process is in the first directory of its controller, or below
// (cgroup.proto). The runtime has CRIU put another in its place; a process that was
// elsewhere CRIU would put there on this machine, where devices are not limited.
func (r *rights) cgroups() error {
	if !r.exists("cgroup.img") {
		return nil
	}
	return r.messages("cgroup.img", magics["cgroup"], func(m []byte) error {
		f, err := parse(m)
		if err != nil {
			return err
		}
		top, err := tops(f)
		if err != nil {
			return err
		}
		return f.each(1, func(set fields) error {
			return set.each(2, func(member fields) error {
				controller, at := member.text(1), member.text(2)
				in, ok := top[controller]
				if !ok || at != in && !strings.HasPrefix(at, strings.TrimSuffix(in, "/")+"/") || path.Clean(at) != at {
					return fmt.Errorf("a process is in the control group %q of %q, and the container in %q", at, controller, in)
				}
				return nil
			})
		})
	})
}

// tops are the container's directories by their controllers.
func tops(f fields) (map[string]string, error) {
	top := map[string]string{}
	err := f.each(2, func(controller fields) error {
		var dirs []string
		err := controller.each(2, func(dir fields) error {
			dirs = append(dirs, path.Clean("/"+dir.text(1)))
			return nil
		})
		if err == nil && len(dirs) > 1 {
			err = fmt.Errorf("the container is in %d control groups of one controller", len(dirs))
		}
		for _, name := range controller[1] {
			if len(dirs) == 1 {
				top[string(name.bytes)] = dirs[0]
			}
		}
		return err
	})
	return top, err
}

// each calls f with every message of a repeated field.
func (f fields) each(n protowire.Number, call func(fields) error) error {
	for _, v := range f[n] {
		m, err := parse(v.bytes)
		if err == nil {
			err = call(m)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// only is a message in a message that may be there once: protobuf makes one of several,
// which is none of those that we would look at.
func (f fields) only(n protowire.Number) (fields, error) {
	if len(f[n]) > 1 {
		return nil, fmt.Errorf("field %d is there %d times", n, len(f[n]))
	}
	return f.sub(n)
}

// text is a field's value as a string; the last one counts.
func (f fields) text(n protowire.Number) string {
	if v := f[n]; len(v) > 0 {
		return string(v[len(v)-1].bytes)
	}
	return ""
}
