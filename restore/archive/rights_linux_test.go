package archive_test

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/lithify/lithify/restore/archive"
)

// proto is a message: numbers, strings and messages by the number of their field.
type proto []struct {
	field protowire.Number
	value any
}

func (p proto) encode() (b []byte) {
	for _, f := range p {
		switch v := f.value.(type) {
		case int:
			b = protowire.AppendVarint(protowire.AppendTag(b, f.field, protowire.VarintType), uint64(v))
		case string:
			b = protowire.AppendString(protowire.AppendTag(b, f.field, protowire.BytesType), v)
		case proto:
			b = protowire.AppendBytes(protowire.AppendTag(b, f.field, protowire.BytesType), v.encode())
		}
	}
	return b
}

// held are the images that rights are read from, of a container of one process with one
// thread more.
type held struct {
	machine, ids    proto
	creds, thread   proto // of the process, and of its thread
	rank, task      proto // of the thread's scheduling, and the process's
	state           int   // of the thread, as of a process; default it runs
	dropped         int   // bits of the thread's number
	mounts, cgroups []proto
	files, remaps   []proto
	more            []member
}

// mounted are where there are mounts; id is that of the one which a path lies on.
var mounted = []string{"/proc/keys", "/proc/sys", "/dev/shm", "/sys/fs", "/data", "/proc", "/dev", "/sys", "/"}

func id(at string) int {
	return 1 + slices.IndexFunc(mounted, func(m string) bool { return at == m || strings.HasPrefix(at, strings.TrimSuffix(m, "/")+"/") })
}

// mountAt is a mount of a file system of its kind, with flags.
func mountAt(kind int, root, at string, flags ...int) proto {
	self, parent := id(at), id(path.Dir(at))
	if !slices.Contains(mounted, at) {
		self = 100
	}
	return proto{{1, kind}, {2, self}, {3, 40 + kind}, {4, parent}, {5, append(flags, 0)[0]}, {6, root}, {7, at}, {17, 0}}
}

// ghost has a deleted file open, and a file system in memory with a link.
func ghost(name string, mount int) func(*held) {
	return func(h *held) {
		h.files[0][2].value = proto{{1, 7}, {6, name}, {7, 2 * mount}}
		h.remaps = []proto{{{1, 7}, {2, 1}, {3, 1}}}
		h.more = []member{{name: "checkpoint/tmpfs-dev-45.tar.gz.img", body: memory("./link"), mode: 0o600}}
	}
}

// memory is what CRIU keeps of a file system in memory that has a link.
func memory(link string) string {
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	t.WriteHeader(&tar.Header{Name: "./dir/", Typeflag: tar.TypeDir})
	t.WriteHeader(&tar.Header{Name: link, Typeflag: tar.TypeSymlink, Linkname: "/etc"})
	t.Close()
	return b.String()
}

// core1 is the image of the first thread, who has no right too many.
func core1(h held) string {
	all := h.members()
	return all[slices.IndexFunc(all, func(m member) bool { return m.name == "checkpoint/core-1.img" })].body
}

// limits are a process's, where one is not 0.
func limits(n, max int) (all proto) {
	for i := range 16 {
		one := proto{{1, 0}, {2, 0}}
		if i == n {
			one = proto{{1, 0}, {2, max}}
		}
		all = append(all, proto{{1, one}}...)
	}
	return all
}

const containerCaps = 0xa80425fb // of containerd's default

func newHeld() held {
	creds := func() proto {
		return proto{{1, 0}, {9, 0}, {9, 0}, {10, containerCaps}, {10, 0}, {11, containerCaps}, {11, 0}, {12, containerCaps}, {12, 0}}
	}
	return held{
		machine: proto{{5, 1}, {6, 2}, {7, 3}, {8, 4}, {9, 6}, {10, 7}, {11, 8}},
		ids:     proto{{1, 1}, {5, 9}, {6, 10}, {7, 11}, {8, 12}, {9, 13}, {10, 7}, {11, 8}},
		creds:   creds(), thread: creds(),
		mounts: []proto{
			mountAt(17, "/", "/"), mountAt(1, "/", "/proc"), mountAt(1, "/sys", "/proc/sys", 1), mountAt(2, "/", "/sys", 1),
			mountAt(5, "/", "/dev"), append(mountAt(5, "/null", "/proc/keys"), proto{{18, "/dev/null"}}...),
		},
		cgroups: []proto{{
			{1, proto{{1, 2}, {2, proto{{1, "devices"}, {2, "/lithify/web"}}}, {2, proto{{1, "pids"}, {2, "/lithify/web/below"}}}}},
			{2, proto{{1, "devices"}, {2, proto{{1, "lithify/web"}}}}}, {2, proto{{1, "pids"}, {2, proto{{1, "lithify/web"}}}}},
		}},
		files: []proto{{{1, 1}, {2, 7}, {3, proto{{1, 7}, {6, "/srv/log"}, {7, 2 * id("/")}}}}},
	}
}

func (h held) members() []member {
	image := func(name string, own uint32, messages ...proto) member {
		b := binary.LittleEndian.AppendUint32(nil, own)
		if own != 0x58313116 {
			b = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, 0x54564319), own)
		}
		for _, m := range messages {
			e := m.encode()
			b = append(binary.LittleEndian.AppendUint32(b, uint32(len(e))), e...)
		}
		return member{name: "checkpoint/" + name, body: string(b), mode: 0o600}
	}
	core := func(name string, creds proto, state int) member {
		thread := append(proto{{1, 0}}, h.rank...)
		if creds != nil {
			thread = append(thread, proto{{10, creds}}...)
		}
		return image(name, 0x55053847, proto{{1, 1}, {3, append(proto{{1, state}}, h.task...)}, {5, thread}})
	}
	images := []member{
		image("inventory.img", 0x58313116, proto{{1, 2}, {3, h.machine}}),
		image("pstree.img", 0x50273030, proto{{1, 1}, {2, 0}, {3, 1}, {4, 1}, {5, 1}, {5, 5 | h.dropped}}),
		core("core-1.img", h.creds, 1), core("core-5.img", h.thread, max(h.state, 1)),
		image("ids-1.img", 0x54432030, h.ids),
		image("mountpoints-13.img", 0x55563928, h.mounts...),
		image("cgroup.img", 0x59383330, h.cgroups...),
		image("files.img", 0x56303138, h.files...),
	}
	if len(h.remaps) > 0 {
		images = append(images, image("remap-fpath.img", 0x59133954, h.remaps...))
	}
	return append(images, h.more...)
}

// set gives a field another value.
func (p proto) set(field protowire.Number, value any) proto {
	p = slices.Clone(p)
	for i := range p {
		if p[i].field == field {
			p[i].value = value
		}
	}
	return p
}

// TestRights has a checkpoint ask for what a container has not: CRIU would give it. Each
// of these was built by hand, none was run.
func TestRights(t *testing.T) {
	spec := &specs.Spec{
		Mounts:  []specs.Mount{{Destination: "/data", Options: []string{"rbind", "ro"}}},
		Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: strings.Fields("CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_MKNOD CAP_NET_RAW CAP_SETGID CAP_SETUID CAP_SETFCAP CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL CAP_AUDIT_WRITE")}},
		Linux: &specs.Linux{
			Namespaces:    []specs.LinuxNamespace{{Type: "pid"}, {Type: "network"}, {Type: "ipc"}, {Type: "uts"}, {Type: "mount"}},
			MaskedPaths:   []string{"/proc/keys", "/proc/nothing-of-this-name"},
			ReadonlyPaths: []string{"/proc/sys"},
		},
	}
	mount := func(at int, field protowire.Number, value any) func(*held) {
		return func(h *held) { h.mounts[at] = h.mounts[at].set(field, value) }
	}
	for _, tc := range []struct {
		name   string
		change func(*held)
		beyond string // said of the rights
		broken string // said of the images
	}{
		{"as it is", func(*held) {}, "", ""},
		{"all capabilities", func(h *held) { h.creds = h.creds.set(12, 1<<21|containerCaps) }, "CAP_SYS_ADMIN", ""},
		{"of a thread", func(h *held) { h.thread = h.thread.set(9, 1<<21) }, "CAP_SYS_ADMIN", ""},
		{"of the upper half", func(h *held) { h.creds[4].value = 1 << 7 }, "CAP_BPF", ""},
		{"of a thread that is called dead", func(h *held) {
			h.thread, h.state = h.thread.set(9, 1<<21), 2
		}, "CAP_SYS_ADMIN", ""},
		{"of a thread, with bits that CRIU drops", func(h *held) {
			h.thread, h.dropped = h.thread.set(9, 1<<21), 1<<32
			h.more = []member{{name: "checkpoint/core-4294967301.img", body: core1(*h), mode: 0o600}}
		}, "CAP_SYS_ADMIN", ""},
		{"no credentials", func(h *held) { h.thread = nil }, "", "has no credentials"},
		{"half credentials", func(h *held) { h.creds = h.creds[:5] }, "", "has no credentials"},
		{"the machine's network", func(h *held) { h.ids = h.ids.set(6, 2) }, "this machine's network namespace", ""},
		{"the machine's mounts", func(h *held) { h.machine = h.machine.set(9, 13) }, "this machine's mount namespace", ""},
		{"the machine's mounts, with bits that CRIU drops", func(h *held) { h.ids = h.ids.set(9, 1<<32|6) }, "this machine's mount namespace", ""},
		{"no namespace at all", func(h *held) { h.ids = h.ids[:1] }, "this machine's pid namespace", ""},
		{"users of its own", func(h *held) { h.ids = h.ids.set(10, 14) }, "user namespace of their own", ""},
		{"devices of all", func(h *held) { h.cgroups[0][0].value = proto{{2, proto{{1, "devices"}, {2, "/"}}}} }, "", `control group "/"`},
		{"beside the container", func(h *held) { h.cgroups[0][0].value = proto{{2, proto{{1, "devices"}, {2, "/lithify/web2"}}}} }, "", "/lithify/web2"},
		{"above by dots", func(h *held) { h.cgroups[0][0].value = proto{{2, proto{{1, "devices"}, {2, "/lithify/web/../.."}}}} }, "", "control group"},
		{"a controller of no container", func(h *held) { h.cgroups[0][0].value = proto{{2, proto{{1, "memory"}, {2, "/lithify/web"}}}} }, "", `of "memory"`},
		{"two control groups", func(h *held) {
			h.cgroups[0][1].value = proto{{1, "devices"}, {2, proto{{1, "a"}}}, {2, proto{{1, "b"}}}}
		}, "", "2 control groups"},
		{"another overlay", mount(4, 1, 17), "overlay", ""},
		{"a disk", mount(4, 1, 16), "no container has mounted", ""},
		{"the kernel's settings", mount(2, 5, 0), "/proc/sys is not read-only", ""},
		{"no cover", func(h *held) { h.mounts = h.mounts[:2] }, "/proc/keys is not hidden", ""},
		{"a cover lifted", mount(5, 18, ""), "", "at /proc/keys shows what is at /dev"},
		{"another proc", mount(4, 1, 1), "at /dev is mounted proc", ""},
		{"another proc, read-only", func(h *held) { mount(4, 1, 1)(h); mount(4, 5, 1)(h) }, "another part of proc", ""},
		{"proc over the cover", func(h *held) {
			h.mounts[5] = mountAt(1, "/keys", "/proc/keys", 1)
		}, "to be hidden", ""},
		{"sysfs to write to", mount(3, 5, 0), "sysfs, and not read-only", ""},
		{"no root", func(h *held) { h.mounts = h.mounts[1:] }, "no root", ""},
		{"two roots", func(h *held) { h.mounts = append(h.mounts, h.mounts[0]) }, "", "two are at /"},
		{"a mount that leads out", mount(4, 7, "/dev/../proc"), "", "a mount of"},
		{"a source that leads out", mount(4, 6, "/../../../etc"), "", `a mount of "/../../../etc"`},
		{"a device of the machine", mount(5, 18, "CRIU:EXTERNAL_DEV"), "", "which is no path"},
		{"a device in the old way", func(h *held) { h.mounts[4] = append(h.mounts[4], proto{{13, 1}}...).set(6, "CRIU:EXTERNAL_DEV") }, "", "a mount of"},
		{"flags of the file system alone", mount(2, 17, 1), "", ""},
		{"writable but for the file system", func(h *held) { mount(2, 17, 1)(h); mount(2, 5, 0)(h) }, "/proc/sys is not read-only", ""},
		{"no flags of the file system", func(h *held) { h.mounts[2] = h.mounts[2][:7] }, "", "field 17 is missing"},
		{"a second proc over the first", func(h *held) { h.mounts = append(h.mounts, h.mounts[1]) }, "", "two are at /proc"},
		{"a second mount of a number", mount(4, 2, id("/proc")), "", "at /dev and /proc have the number"},
		{"a cover below the proc", mount(5, 4, id("/")), "", "at /proc/keys is not on that at /proc"},
		{"a part of a file system", func(h *held) { h.mounts = append(h.mounts, mountAt(5, "/link/etc", "/dev/shm")) }, "", "at /dev/shm shows what is at /dev"},
		{"a part of the root", func(h *held) {
			h.mounts = append(h.mounts, mountAt(5, "/", "/dev/shm").set(3, 57))
		}, "", "at /dev/shm shows what is at /"},
		{"what is given, by another mount", func(h *held) {
			h.mounts = append(h.mounts, append(mountAt(5, "/", "/data"), proto{{18, "/data"}}...).set(3, 60), mountAt(5, "/", "/dev/shm").set(3, 60))
		}, "", "at /dev/shm shows what is at /data"},
		{"what is given", func(h *held) {
			h.mounts = append(h.mounts, append(mountAt(5, "/", "/data", 1), proto{{18, "/data"}}...).set(3, 60))
		}, "", ""},
		{"what is given, to write to", func(h *held) {
			h.mounts = append(h.mounts, append(mountAt(5, "/", "/data"), proto{{18, "/data"}}...).set(3, 60))
		}, "at /data is mounted for writing", ""},
		{"the root of a process", func(h *held) { h.mounts = append(h.mounts, mountAt(1, "/1/root", "/proc/1/root", 1)) }, "of a process", ""},
		{"its own root", func(h *held) {
			h.mounts = append(h.mounts, mountAt(1, "/thread-self/cwd/x", "/proc/thread-self/cwd/x", 1))
		}, "of a process", ""},
		{"an agent of control groups", func(h *held) {
			h.mounts = append(h.mounts, append(mountAt(12, "/", "/sys/fs", 1), proto{{9, "none,name=x,release_agent=/x"}}...))
		}, "", "a program that the kernel is to run"},
		{"a property that leads out", func(h *held) {
			h.cgroups[0][1].value = proto{{1, "devices"}, {2, proto{{1, "lithify/web"}, {2, proto{{1, "sub"}, {3, proto{{1, "../../../etc/passwd"}, {2, "x"}}}}}}}}
		}, "", "the property"},
		{"a controller that leads out", func(h *held) { h.cgroups[0][1].value = proto{{1, "../../etc"}, {2, proto{{1, "lithify/web"}}}} }, "", "the controller"},
		{"a controller with options", func(h *held) {
			h.cgroups[0][1].value = proto{{1, "name=x,release_agent=/x"}, {2, proto{{1, "lithify/web"}}}}
		}, "", "the controller"},
		{"real-time", func(h *held) { h.rank = proto{{4, 1}, {5, 99}} }, "CAP_SYS_NICE", ""},
		{"batch, when it forks", func(h *held) { h.rank = proto{{4, 1<<30 | 3}} }, "", ""},
		{"nice", func(h *held) { h.rank = proto{{3, 2 * 5}} }, "", ""},
		{"not nice at all", func(h *held) { h.rank = proto{{3, 2*5 - 1}} }, "CAP_SYS_NICE", ""},
		{"real-time later", func(h *held) { h.task = proto{{8, limits(14, 99)}} }, "CAP_SYS_NICE", ""},
		{"not nice later", func(h *held) { h.task = proto{{8, limits(13, 40)}} }, "CAP_SYS_NICE", ""},
		{"many files", func(h *held) { h.task = proto{{8, limits(7, 1024)}} }, "", ""},
		{"unkillable", func(h *held) { h.task = proto{{14, -1000}} }, "CAP_SYS_RESOURCE", ""},
		{"killed late", func(h *held) { h.task = proto{{14, -999}} }, "", ""},
		{"a file that leads out", func(h *held) { h.files[0][2].value = proto{{1, 7}, {6, "/../etc/passwd"}} }, "", "no absolute path"},
		{"a network device", func(h *held) { h.files[0][0].value = 15 }, "", "tun"},
		{"a network device, with bits that CRIU drops", func(h *held) { h.files[0][0].value = 1<<32 | 15 }, "", "tun"},
		{"no files", func(h *held) { h.files = nil }, "", ""},
		{"a ghost", func(h *held) { h.remaps = []proto{{{1, 7}, {2, 1}, {3, 1}}} }, "", ""},
		{"a ghost of nothing", func(h *held) { h.remaps = []proto{{{1, 8}, {2, 1}, {3, 1}}} }, "", "which no process has open"},
		{"a ghost elsewhere", func(h *held) { ghost("/dev/link/log", id("/"))(h) }, "", "not where it says"},
		{"a ghost in memory", ghost("/dev/dir/log", id("/dev")), "", ""},
		{"a ghost behind a link", ghost("/dev/link/log", id("/dev")), "", "behind the link /dev/link"},
		{"a ghost behind a link with a slash", func(h *held) {
			ghost("/dev/link/log", id("/dev"))(h)
			h.more[0].body = memory("./link/")
		}, "", "behind the link /dev/link"},
		{"a ghost of what is given", func(h *held) {
			h.mounts = append(h.mounts, append(mountAt(5, "/", "/data", 1), proto{{18, "/data"}}...).set(3, 60))
			ghost("/data/log", id("/data"))(h)
		}, "", "from outside at /data"},
		{"rules of iptables", func(h *held) { h.more = []member{{name: "checkpoint/iptables-10.img", body: "x", mode: 0o600}} }, "", "change this machine"},
		{"profiles of AppArmor", func(h *held) { h.more = []member{{name: "checkpoint/apparmor.img", body: "x", mode: 0o600}} }, "", "change this machine"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHeld()
			tc.change(&h)
			dir := unpackedFrom(t, h.members())
			rights, err := archive.ReadRights(t.Context(), dir)
			if tc.broken != "" {
				checkRefused(t, err, tc.broken)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(rights.Beyond(spec), "; ")
			if (got == "") != (tc.beyond == "") || !strings.Contains(got, tc.beyond) {
				t.Errorf("got %q, want something of %q", got, tc.beyond)
			}
		})
	}
}

// A message that is there twice is one to CRIU, made of both.
func TestRightsOnce(t *testing.T) {
	h := newHeld()
	full := h.creds.set(12, 1<<21)
	for name, twice := range map[string]proto{
		"credentials": {{1, 1}, {3, proto{{1, 1}}}, {5, proto{{10, full}, {10, h.creds}}}},
		"a thread":    {{1, 1}, {3, proto{{1, 1}}}, {5, proto{{10, full}}}, {5, proto{{10, h.creds}}}},
	} {
		members := h.members()
		e := twice.encode()
		b := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, 0x54564319), 0x55053847)
		members[2].body = string(append(binary.LittleEndian.AppendUint32(b, uint32(len(e))), e...))
		_, err := archive.ReadRights(t.Context(), unpackedFrom(t, members))
		if err == nil || !strings.Contains(err.Error(), "2 times") {
			t.Errorf("%s twice: got %v", name, err)
		}
	}
}

// TestRightsOfAProcess reads those of a process of this machine that CRIU has dumped.
func TestRightsOfAProcess(t *testing.T) {
	got, err := archive.ReadRights(t.Context(), unpackedFrom(t, realImages(t)))
	if err != nil {
		t.Fatal(err)
	}
	if got.Capabilities == 0 {
		t.Error("root's process has no capabilities")
	}
	if diff := cmp.Diff([]string(nil), slices.DeleteFunc(got.Namespaces, func(ns string) bool { return ns == "time" })); diff != "" {
		t.Errorf("namespaces of its own (-want +got):\n%s", diff)
	}
}
