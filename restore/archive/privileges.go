package archive

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// Privileges are what CRIU gives to processes because their images say so, and no spec of
// a restored container takes away: images are restored by root.
type Privileges struct {
	// Capabilities are those that any thread has, or can get.
	Capabilities []string
	// Unfiltered says that a thread has no seccomp filter.
	Unfiltered bool
	// Profiles are those of AppArmor and SELinux.
	Profiles []string
	// Mounts are the kinds of file systems that CRIU mounts itself: proc, tmpfs, ...
	Mounts []string
}

// Beyond says what of them a container would not get that has these capabilities and what
// a runtime mounts by itself. Where there is anything, the checkpoint is of a container
// with more rights than the one to be restored, or of nobody's container at all.
func (p Privileges) Beyond(capabilities []string) []Reason {
	var all []Reason
	beyond := func(fact, format string, have, allowed []string) {
		more := slices.DeleteFunc(slices.Clone(have), func(s string) bool { return slices.Contains(allowed, s) })
		if len(more) > 0 {
			all = append(all, Reason{fact, fmt.Sprintf(format, strings.Join(more, ", "))})
		}
	}
	beyond("capabilities", "its processes would have %s, which the container has not", p.Capabilities, capabilities)
	beyond("mounts", "CRIU would mount %s, which no container gets", p.Mounts, harmless)
	return all
}

// harmless are the file systems of which a container gets one of its own.
var harmless = []string{"proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "overlay"}

// capabilityNames are those of linux/capability.h, by number.
var capabilityNames = strings.Fields(`
	CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP
	CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK CAP_IPC_OWNER
	CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE
	CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE CAP_AUDIT_WRITE CAP_AUDIT_CONTROL CAP_SETFCAP
	CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE`)

// Fields of creds_entry that are sets of capabilities: inheritable, permitted, effective,
// bounding, ambient.
var capabilitySets = []protowire.Number{9, 10, 11, 12, 19}

// thread notes what the core of a thread gives it.
func (v *validator) thread(core fields) error {
	t, err := core.sub(5)
	if err != nil {
		return err
	}
	creds, err := t.sub(10)
	if err != nil {
		return err
	}
	p := &v.Privileges
	for _, set := range capabilitySets {
		words, err := creds.numbers(set)
		if err != nil {
			return err
		}
		for i, word := range words {
			for bit := range 32 {
				if word>>bit&1 != 0 {
					p.Capabilities = add(p.Capabilities, capabilityName(32*i+bit))
				}
			}
		}
	}
	for _, profile := range creds[15] {
		p.Profiles = add(p.Profiles, strings.ToValidUTF8(string(profile.bytes), "?"))
	}
	const filter = 2 // of enum seccomp_mode
	p.Unfiltered = p.Unfiltered || t.number(11) != filter
	return nil
}

func capabilityName(n int) string {
	if n < len(capabilityNames) {
		return capabilityNames[n]
	}
	return "capability " + strconv.Itoa(n)
}

// add keeps a sorted set.
func add(set []string, s string) []string {
	i, found := slices.BinarySearch(set, s)
	if found {
		return set
	}
	return slices.Insert(set, i, s)
}

// fstypes are the values of mnt_entry.fstype.
var fstypes = map[uint64]string{
	1: "proc", 2: "sysfs", 3: "devtmpfs", 4: "binfmt_misc", 5: "tmpfs", 6: "devpts", 7: "simfs", 8: "pstore", 9: "securityfs",
	10: "fusectl", 11: "debugfs", 12: "cgroup", 13: "aufs", 14: "mqueue", 15: "fuse", 17: "overlay", 18: "autofs", 19: "tracefs", 23: "cgroup2",
}

// mounts notes what CRIU mounts. What is external is the runtime's to give.
func (v *validator) mounts(m []byte) error {
	f, err := parse(m)
	if err != nil || f.number(13) != 0 || f.has(18) {
		return err
	}
	kind, known := fstypes[f.number(1)]
	if !known {
		kind = "a file system of kind " + strconv.FormatUint(f.number(1), 10)
		for _, name := range f[14] { // of those that CRIU does not know itself
			kind = strings.ToValidUTF8(string(name.bytes), "?")
		}
	}
	v.Privileges.Mounts = add(v.Privileges.Mounts, kind)
	return nil
}

// descriptors are those that runc left: what the process had as input, output and errors.
// The third and later ones would be descriptors of CRIU, the first of which commands it: runc 1.5.2
// has CRIU give any of them to the processes that an image names for it.
func (v *validator) descriptors(name string) error {
	full := path.Join(v.dir, name)
	var fds []string
	if err := (loader{v.root, Limits{}.withDefaults()}).json(full, &fds); err != nil {
		return err
	}
	if len(fds) > 3 {
		return refused(full, "it names %d descriptors where there are input, output and errors: the others would be CRIU's own; make the checkpoint anew", len(fds))
	}
	return nil
}
