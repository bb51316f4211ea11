package archive_test

import (
	"testing"

	"github.com/lithify/lithify/restore/archive"
)

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
