package archive

import (
	"context"
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
	// Realtime says that a process comes before those of the machine, which takes
	// CAP_SYS_NICE, and Unkillable that none is ended when memory is short, which takes
	// CAP_SYS_RESOURCE.
	Realtime, Unkillable bool
	// Ghosts are the paths of deleted files that a process has open, in the container's root.
	// CRIU makes them anew there, and follows links of the container's as the machine would.
	Ghosts []string
}

// ReadRights reads them from a directory that [Read] filled and [Validate] has passed. What no
// runtime gives a container is an [*EntryError]: a process without credentials, which
// CRIU would leave its own; one in another control group than the container's, or in a
// namespace of the machine where the first is not; more than one mount namespace, or mounts
// that lead out of it; files and networks that CRIU would make outside of the container.
func ReadRights(ctx context.Context, dir string) (*Rights, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	r := rights{imageDir: imageDir{root, ImagesDir}}
	for _, read := range []func() error{r.processes, r.mounts, r.cgroups, func() error { return r.files(ctx) }, r.foreign} {
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
		threads, err := f.words(5)
		if err != nil {
			return err
		}
		return r.process(f.word(1), threads)
	})
}

func (r *rights) process(pid uint64, threads []uint64) error {
	dead, err := r.dead(pid)
	if dead || err != nil {
		return err
	}
	for _, id := range append([]uint64{pid}, threads...) {
		if err := r.credentials(id); err != nil {
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
		if ids.has(ns.field) && ids.word(ns.field) != r.machine.word(ns.field) {
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

// dead says that a process has ended: CRIU makes nothing of it that runs. Of a thread it
// does not ask that.
func (r *rights) dead(pid uint64) (bool, error) {
	core, err := r.message(coreOf(pid), magics["core"])
	if err != nil {
		return false, err
	}
	task, err := core.only(3)
	return task.word(1) == taskDead, err
}

func coreOf(id uint64) string { return "core-" + strconv.FormatUint(id, 10) + ".img" }

// credentials adds those of a thread (core.proto, creds.proto).
func (r *rights) credentials(id uint64) error {
	name := coreOf(id)
	core, err := r.message(name, magics["core"])
	if err != nil {
		return err
	}
	task, err := core.only(3)
	if err != nil {
		return err
	}
	thread, err := core.only(5)
	if err != nil {
		return err
	}
	if err := r.rank(task, thread); err != nil {
		return err
	}
	creds, err := thread.only(10)
	if err != nil {
		return err
	}
	if !thread.has(10) || creds.required(9, 10, 11, 12) != nil {
		return refused(path.Join(r.dir, name), "the process has no credentials, so that CRIU would leave it all of root's")
	}
	for _, set := range []protowire.Number{9, 10, 11, 12, 19} { // inheritable, permitted, effective, bounding, ambient
		words, err := creds.words(set)
		if err != nil {
			return err
		}
		for i, w := range words {
			if i > 1 && w != 0 {
				return refused(path.Join(r.dir, name), "the process has capabilities beyond the 64th")
			}
			r.Capabilities |= w << (32 * min(i, 1))
		}
	}
	return nil
}

// unkillable is the oom_score_adj of a process that the kernel never ends for memory.
const unkillable = -1000

// Limits by whose number a process may make itself more than others, without a right.
const (
	limitNice     = 13
	limitRealtime = 14
)

// rank notes how a thread stands to others, or may come to (core.proto).
func (r *rights) rank(task, thread fields) error {
	const resetOnFork = 1 << 30
	switch thread.word(4) &^ resetOnFork { // sched_policy: other, batch, idle
	case 0, 3, 5:
	default:
		r.Realtime = true
	}
	r.Realtime = r.Realtime || thread.zigzag(3) < 0 // sched_nice
	r.Unkillable = r.Unkillable || int32(task.word(14)) <= unkillable
	limits, err := task.only(8)
	if err != nil {
		return err
	}
	n := 0
	return limits.each(1, func(limit fields) error {
		if (n == limitNice || n == limitRealtime) && (limit.number(1) != 0 || limit.number(2) != 0) {
			r.Realtime = true
		}
		n++
		return nil
	})
}
