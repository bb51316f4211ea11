package archive_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lithify/lithify/restore/archive"
)

// containerCaps are what containerd gives a container.
var containerCaps = strings.Fields(`CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_MKNOD CAP_NET_RAW CAP_SETGID CAP_SETUID
	CAP_SETFCAP CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL CAP_AUDIT_WRITE`)

// TestPrivileges: what a spec could not ask for, images can: CRIU gives it to the processes.
func TestPrivileges(t *testing.T) {
	// The core of a thread with CAP_KILL (5) permitted, and more.
	core := func(creds string) string {
		thread := "\x52" + string(rune(len(creds))) + creds + "\x58\x02" // credentials, and a seccomp filter
		task := "\x08\x01\x32\x04tiny"
		return message("\x08\x01\x1a"+string(rune(len(task)))+task+"\x2a"+string(rune(len(thread)))+thread, 0x55053847)
	}
	// Two mounts, the second external.
	mounts := func(kind, more string) string {
		return message("\x08"+kind+more, 0x55563928) + "\x05\x00\x00\x00\x08\x03\x92\x01\x00"
	}
	const kill = "\x50\x20"
	for _, tt := range []struct {
		name         string
		core, mounts string
		want         archive.Privileges
		beyond       []string
	}{
		{"a container's", core(kill), mounts("\x05", ""), archive.Privileges{Capabilities: []string{"CAP_KILL"}, Mounts: []string{"tmpfs"}}, nil},
		{"permitted", core("\x50\x80\x80\x80\x01"), "", archive.Privileges{Capabilities: []string{"CAP_SYS_ADMIN"}}, []string{"capabilities: its processes would have CAP_SYS_ADMIN,"}},
		{"bounding, in the second word", core(kill + "\x60\x00\x60\x80\x02"), "", archive.Privileges{Capabilities: []string{"CAP_CHECKPOINT_RESTORE", "CAP_KILL"}}, []string{"capabilities: its processes would have CAP_CHECKPOINT_RESTORE,"}},
		{"ambient, packed", core("\x9a\x01\x01\x02"), "", archive.Privileges{Capabilities: []string{"CAP_DAC_OVERRIDE"}}, nil},
		{"of the future", core("\x48\x00\x48\x80\x80\x80\x80\x08"), "", archive.Privileges{Capabilities: []string{"capability 63"}}, []string{"capabilities: its processes would have capability 63,"}},
		{"devices", core(kill), mounts("\x03", ""), archive.Privileges{Capabilities: []string{"CAP_KILL"}, Mounts: []string{"devtmpfs"}}, []string{"mounts: CRIU would mount devtmpfs,"}},
		{"any other", core(kill), mounts("\x10", "\x72\x04ext4"), archive.Privileges{Capabilities: []string{"CAP_KILL"}, Mounts: []string{"ext4"}}, []string{"mounts: CRIU would mount ext4,"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := slices.DeleteFunc(tinyImages(), func(m member) bool { return m.name == "checkpoint/core-1.img" })
			files = append(files, member{name: "checkpoint/core-1.img", body: tt.core})
			if tt.mounts != "" {
				files = append(files, member{name: "checkpoint/mountpoints-9.img", body: tt.mounts})
			}
			got, err := archive.Validate(unpackedFrom(t, files))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got.Privileges); diff != "" {
				t.Error(diff)
			}
			beyond := got.Privileges.Beyond(containerCaps)
			if !slices.EqualFunc(beyond, tt.beyond, func(r archive.Reason, begin string) bool { return strings.HasPrefix(r.String(), begin) }) {
				t.Errorf("beyond a container's: %v, want %v", beyond, tt.beyond)
			}
		})
	}
}

// message is an image of one.
func message(body string, own uint32) string {
	b := []byte{0x19, 0x43, 0x56, 0x54, byte(own), byte(own >> 8), byte(own >> 16), byte(own >> 24), byte(len(body)), 0, 0, 0}
	return string(b) + body
}

// TestDescriptors: runc 1.5.2 takes from this list which of CRIU's own descriptors the
// restored processes get, under names that their images choose.
func TestDescriptors(t *testing.T) {
	for list, want := range map[string]string{
		`["/dev/null","pipe:[1]","pipe:[2]"]`:            "",
		`["/dev/null","pipe:[1]","pipe:[2]","pipe:[3]"]`: "CRIU's own",
		`{}`: "not the JSON",
		`[`:  "not the JSON",
	} {
		_, err := archive.Validate(unpackedFrom(t, append(tinyImages(), member{name: "checkpoint/descriptors.json", body: list})))
		if want == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		checkRefused(t, err, "descriptors.json", want)
	}
}

// TestCgroups: CRIU joins these names to a path of the machine.
func TestCgroups(t *testing.T) {
	field := func(n byte, body string) string { return string([]byte{n<<3 | 2, byte(len(body))}) + body }
	set := func(path string) string { return field(1, "\x08\x01"+field(2, field(1, "cpu")+field(2, path))) }
	dir := field(1, "a")
	for range 10 {
		dir = field(1, "a") + field(2, dir)
	}
	for body, want := range map[string]string{
		set("/lithify/x") + field(2, field(1, "cpu")+field(2, dir)):                        "",
		set("/../../system.slice"):                                                         `"/../../system.slice"`,
		field(2, field(2, field(1, "../x"))):                                               `"../x"`,
		field(2, field(2, field(1, "a")+field(2, field(1, "b")+field(2, field(1, ".."))))): `".."`,
		field(2, "\xff"): "damaged",
	} {
		_, err := archive.Validate(unpackedFrom(t, append(tinyImages(), member{name: "checkpoint/cgroup.img", body: message(body, 0x59383330)})))
		if want == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		checkRefused(t, err, "cgroup.img", want)
	}
}
