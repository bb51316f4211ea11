package archive

import (
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/pkg/cap"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Beyond says what processes with these rights could do that a container of the spec cannot, or
// what namespaces they have that it has not: none of that may be restored. It looks at which of
// the files that the spec hides this machine has.
func (r Rights) Beyond(spec *specs.Spec) (why []string) {
	why = append(why, r.capabilities(spec)...)
	why = append(why, r.ranks(spec)...)
	why = append(why, r.namespaces(spec)...)
	if len(r.Mounts) == 0 || r.Mounts[0].Path != "/" || len(r.Mounts) > 1 && r.Mounts[1].Path == "/" {
		return append(why, "they have no root, or two")
	}
	for _, m := range r.Mounts[1:] {
		if w := m.beyond(spec); w != "" {
			why = append(why, w)
		}
	}
	return append(why, r.uncovered(spec)...)
}

// may are the capabilities of a container of the spec.
func may(spec *specs.Spec) []string {
	if spec.Process == nil || spec.Process.Capabilities == nil {
		return nil
	}
	return spec.Process.Capabilities.Bounding
}

// ranks says what of their scheduling the processes could not have asked for.
func (r Rights) ranks(spec *specs.Spec) (why []string) {
	if r.Realtime && !slices.Contains(may(spec), "CAP_SYS_NICE") {
		why = append(why, "they run before this machine's processes (real-time, or a nice value below 0), which takes CAP_SYS_NICE")
	}
	if r.Unkillable && !slices.Contains(may(spec), "CAP_SYS_RESOURCE") {
		why = append(why, "they are not ended when memory is short, which takes CAP_SYS_RESOURCE")
	}
	return why
}

func (r Rights) capabilities(spec *specs.Spec) []string {
	names, more := cap.FromBitmap(r.Capabilities)
	over := slices.DeleteFunc(names, func(c string) bool { return slices.Contains(may(spec), c) })
	for _, bit := range more {
		over = append(over, fmt.Sprintf("capability %d", bit))
	}
	if len(over) == 0 {
		return nil
	}
	return []string{"they have " + strings.Join(over, ", ")}
}

func (r Rights) namespaces(spec *specs.Spec) (why []string) {
	var given []string
	if spec.Linux != nil {
		for _, ns := range spec.Linux.Namespaces {
			given = append(given, string(ns.Type))
		}
	}
	for _, ns := range namespaces {
		// CRIU makes a time namespace to go on with the clock; runc makes one where it is asked.
		has, gets := slices.Contains(r.Namespaces, ns.kind), slices.Contains(given, ns.kind)
		switch {
		case ns.kind == "time":
		case gets && !has:
			why = append(why, "they would be in this machine's "+ns.kind+" namespace")
		case has && !gets:
			why = append(why, "they have a "+ns.kind+" namespace of their own")
		}
	}
	return why
}

// ofProcess is what /proc has of one process.
var ofProcess = regexp.MustCompile(`^/(self|thread-self|[0-9]+)(/|$)`)

// readOnly says that the spec gives a container something at a path that it must not write to.
func readOnly(spec *specs.Spec, at string) bool {
	return slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool {
		return path.Clean(m.Destination) == at && slices.Contains(m.Options, "ro")
	})
}

// beyond says what is wrong with a mount that is not the root: "" if nothing is. What
// shows the kernel is read-only, but for /proc itself, and where the spec has it.
func (m MountPoint) beyond(spec *specs.Spec) string {
	says := func(why string) string { return fmt.Sprintf("at %s is mounted %s", m.Path, why) }
	switch {
	case m.Outside() && !m.ReadOnly && readOnly(spec, m.Key):
		return says("for writing what is given to it read-only")
	case m.Outside():
		return "" // and is what whoever restores says it is, or CRIU fails
	case m.Type == "tmpfs", m.Type == "devpts", m.Type == "mqueue":
		return ""
	case m.Type != "proc" && m.Type != "sysfs" && m.Type != "cgroup" && m.Type != "cgroup2":
		return says("what no container has mounted (" + m.Type + ")")
	case m.Type == "proc" && m.Path == "/proc" && m.Root == "/":
		return ""
	case !m.ReadOnly:
		return says(m.Type + ", and not read-only")
	case m.Type == "proc" && ofProcess.MatchString(m.Root):
		return says("what /proc has of a process, which could be the machine's root")
	case m.Type == "proc" && m.Path != path.Join("/proc", m.Root), m.Type == "sysfs" && m.Path != path.Join("/sys", m.Root):
		return says("another part of " + m.Type)
	case spec.Linux != nil && slices.ContainsFunc(spec.Linux.MaskedPaths, func(p string) bool { return lies(m.Path, p) }):
		return says("what is to be hidden there")
	}
	return ""
}

// uncovered says which of the files that the spec hides or makes read-only are not so for
// the processes.
func (r Rights) uncovered(spec *specs.Spec) (why []string) {
	if spec.Linux == nil {
		return nil
	}
	has := func(p string, ok func(MountPoint) bool) bool {
		return slices.ContainsFunc(r.Mounts, func(m MountPoint) bool { return m.Path == p && ok(m) })
	}
	shown := func(p string) bool { // by a mount of the processes, and by this machine
		top := strings.HasPrefix(p, "/proc/") && has("/proc", isShown) || strings.HasPrefix(p, "/sys/") && has("/sys", isShown)
		_, err := os.Lstat(p)
		return top && err == nil
	}
	for _, p := range spec.Linux.MaskedPaths {
		if shown(p) && !has(p, func(m MountPoint) bool { return m.Type == "tmpfs" || m.Outside() }) {
			why = append(why, p+" is not hidden from them")
		}
	}
	for _, p := range spec.Linux.ReadonlyPaths {
		if shown(p) && !has(p, func(m MountPoint) bool { return m.ReadOnly }) {
			why = append(why, p+" is not read-only for them")
		}
	}
	return why
}

func isShown(m MountPoint) bool { return m.Type == "proc" || m.Type == "sysfs" }
