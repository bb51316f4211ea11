package archive_test

import (
	"encoding/binary"
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
	mounts, cgroups []proto
}

const containerCaps = 0xa80425fb // of containerd's default

func newHeld() held {
	creds := func() proto {
		return proto{{1, 0}, {9, 0}, {9, 0}, {10, containerCaps}, {10, 0}, {11, containerCaps}, {11, 0}, {12, containerCaps}, {12, 0}}
	}
	mount := func(kind int, root, at string, more ...int) proto {
		flags := 0
		if len(more) > 0 {
			flags = more[0]
		}
		return proto{{1, kind}, {2, 1}, {5, flags}, {6, root}, {7, at}}
	}
	return held{
		machine: proto{{5, 1}, {6, 2}, {7, 3}, {8, 4}, {9, 6}, {10, 7}, {11, 8}},
		ids:     proto{{1, 1}, {5, 9}, {6, 10}, {7, 11}, {8, 12}, {9, 13}, {10, 7}, {11, 8}},
		creds:   creds(), thread: creds(),
		mounts: []proto{
			mount(17, "/", "/"), mount(1, "/", "/proc"), mount(1, "/sys", "/proc/sys", 1), mount(2, "/", "/sys", 1),
			mount(5, "/", "/dev"), append(mount(5, "/null", "/proc/keys"), proto{{18, "/dev/null"}}...),
		},
		cgroups: []proto{{
			{1, proto{{1, 2}, {2, proto{{1, "devices"}, {2, "/lithify/web"}}}, {2, proto{{1, "pids"}, {2, "/lithify/web/below"}}}}},
			{2, proto{{1, "devices"}, {2, proto{{1, "lithify/web"}}}}}, {2, proto{{1, "pids"}, {2, proto{{1, "lithify/web"}}}}},
		}},
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
	core := func(name string, creds proto) member {
		thread := proto{{1, 0}}
		if creds != nil {
			thread = append(thread, proto{{10, creds}}...)
		}
		return image(name, 0x55053847, proto{{1, 1}, {3, proto{{1, 1}}}, {5, thread}})
	}
	return []member{
		image("inventory.img", 0x58313116, proto{{1, 2}, {3, h.machine}}),
		image("pstree.img", 0x50273030, proto{{1, 1}, {2, 0}, {3, 1}, {4, 1}, {5, 1}, {5, 5}}),
		core("core-1.img", h.creds), core("core-5.img", h.thread),
		image("ids-1.img", 0x54432030, h.ids),
		image("mountpoints-13.img", 0x55563928, h.mounts...),
		image("cgroup.img", 0x59383330, h.cgroups...),
	}
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
		{"no credentials", func(h *held) { h.thread = nil }, "", "has no credentials"},
		{"half credentials", func(h *held) { h.creds = h.creds[:5] }, "", "has no credentials"},
		{"the machine's network", func(h *held) { h.ids = h.ids.set(6, 2) }, "this machine's network namespace", ""},
		{"the machine's mounts", func(h *held) { h.machine = h.machine.set(9, 13) }, "this machine's mount namespace", ""},
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
		{"a cover lifted", mount(5, 18, ""), "", ""},
		{"another proc", mount(4, 1, 1), "at /dev is mounted proc", ""},
		{"another proc, read-only", func(h *held) { mount(4, 1, 1)(h); mount(4, 5, 1)(h) }, "another part of proc", ""},
		{"proc over the cover", func(h *held) {
			h.mounts = append(h.mounts, proto{{1, 1}, {5, 1}, {6, "/keys"}, {7, "/proc/keys"}})
		}, "to be hidden", ""},
		{"sysfs to write to", mount(3, 5, 0), "sysfs, and not read-only", ""},
		{"no root", func(h *held) { h.mounts = h.mounts[1:] }, "no root", ""},
		{"two roots", func(h *held) { h.mounts = append(h.mounts, h.mounts[0]) }, "no root, or two", ""},
		{"a mount that leads out", mount(4, 7, "/dev/../proc"), "", "a mount of"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHeld()
			tc.change(&h)
			dir := unpackedFrom(t, h.members())
			rights, err := archive.ReadRights(dir)
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
		_, err := archive.ReadRights(unpackedFrom(t, members))
		if err == nil || !strings.Contains(err.Error(), "2 times") {
			t.Errorf("%s twice: got %v", name, err)
		}
	}
}

// TestRightsOfAProcess reads those of a process of this machine that CRIU has dumped.
func TestRightsOfAProcess(t *testing.T) {
	got, err := archive.ReadRights(unpackedFrom(t, realImages(t)))
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
