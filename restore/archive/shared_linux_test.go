package archive_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lithify/lithify/restore/archive"
)

// inet is an entry of files.img. Addresses are words as a little-endian machine has them.
func inet(id, family, protocol, state, port, remote int, local, peer []int, more ...proto) proto {
	m := proto{{1, id}, {3, family}, {5, protocol}, {6, state}, {7, port}, {8, remote}}
	for _, w := range local {
		m = append(m, proto{{11, w}}...)
	}
	for _, w := range peer {
		m = append(m, proto{{12, w}}...)
	}
	for _, p := range more {
		m = append(m, p...)
	}
	return proto{{1, 4}, {2, id}, {4, m}}
}

// TestShared reads what was built by hand: the images of sockets as CRIU 4.2.1 wrote them of
// a real container (busybox nc), of which these are the fields.
func TestShared(t *testing.T) {
	h := newHeld()
	h.mounts = append(h.mounts, append(mountAt(5, "/", "/data"), proto{{18, "/data"}}...).set(3, 60))
	h.task = append(h.task, proto{{7, proto{{1, proto{{1, 0}, {2, 0}, {3, 5}, {4, 0}}}, {2, proto{{3, 0}, {4, 0}}}, {4, proto{{1, 0}}}}}}...)
	h.files = append(h.files,
		proto{{1, 1}, {2, 8}, {3, proto{{1, 8}, {6, "/data/log"}, {7, 2 * id("/data")}}}},
		inet(9, 10, 6, 10, 5000, 0, []int{0, 0, 0, 0}, []int{0, 0, 0, 0}),
		inet(10, 2, 6, 1, 41898, 5000, []int{0x0100007f}, []int{0x0100007f}),
		inet(11, 10, 6, 1, 5000, 41898, []int{0, 0, 0xffff0000, 0x0100007f}, []int{0, 0, 0xffff0000, 0x0100007f}),
		inet(12, 2, 17, 7, 53, 0, []int{0x0200580a}, []int{0}, proto{{16, proto{{1, 1}}}}),
		proto{{1, 17}, {2, 13}},
	)
	h.remaps = []proto{{{1, 7}, {2, 1}, {3, 1}}}
	dir := unpackedFrom(t, h.members())
	got, err := archive.ReadShared(dir, &archive.Derived{EnvNames: []string{"TOKEN"}})
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort
	want := &archive.Shared{
		Processes: []int{1}, Env: []string{"TOKEN"}, Files: []string{"/data/log"}, Deleted: []string{"/srv/log"}, Timers: 3,
		Sockets: []archive.Socket{
			{Protocol: "tcp", Local: at("[::]:5000"), Listens: true},
			{Protocol: "tcp", Local: at("127.0.0.1:41898"), Remote: at("127.0.0.1:5000")},
			{Protocol: "tcp", Local: at("127.0.0.1:5000"), Remote: at("127.0.0.1:41898")},
			{Protocol: "udp", Local: at("10.88.0.2:53"), Anywhere: true},
		},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("shared (-want +got):\n%s", diff)
	}

	for range 1000 {
		want.Deleted = append(want.Deleted, strings.Repeat("/long", 1000))
	}
	if b, err := json.Marshal(want.Head()); err != nil || len(b) > 64<<10 || len(want.Head().Sockets) != 4 {
		t.Errorf("the head of it has %d bytes, %v", len(b), err)
	}

	h.files = append(h.files, inet(14, 10, 6, 10, 5000, 0, []int{0}, []int{0})) // too short for its family
	_, err = archive.ReadShared(unpackedFrom(t, h.members()), &archive.Derived{})
	checkRefused(t, err, "no address of its family")
}

// TestNetworked: CRIU is told that the network is given to it, and the originals stay.
func TestNetworked(t *testing.T) {
	h := newHeld()
	h.more = []member{{name: "checkpoint/netns-7.img", body: "of the dump", mode: 0o600}}
	dir, into := unpackedFrom(t, h.members()), filepath.Join(t.TempDir(), "images")
	if err := archive.Networked(dir, into); err != nil {
		t.Fatal(err)
	}
	// As CRIU 4.2.1 wrote it of a container whose network namespace had a path.
	want := "\x19CVTR7\x93U\x0e\x00\x00\x00B\x0cextRootNetNS"
	if got, err := os.ReadFile(filepath.Join(into, "netns-10.img")); err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if _, err := os.Stat(filepath.Join(into, "netns-7.img")); err == nil {
		t.Error("the network of the dump is still there")
	}
	one, err := os.Stat(filepath.Join(dir, "checkpoint/core-1.img"))
	if err != nil {
		t.Fatal(err)
	}
	if other, err := os.Stat(filepath.Join(into, "core-1.img")); err != nil || !os.SameFile(one, other) {
		t.Errorf("core-1.img: %v, want it to be one with the original", err)
	}
	h.ids = h.ids[:1]
	if err := archive.Networked(unpackedFrom(t, h.members()), into+"2"); err == nil || !strings.Contains(err.Error(), "which network namespace") {
		t.Errorf("of a process without a network of its own: got %v", err)
	}
}

// TestSharedOfAProcess reads what CRIU writes of timers, deleted files and locks.
func TestSharedOfAProcess(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("no python3")
	}
	images := images(t, dump(t, "shared", "python3", "-c", `
import os, signal, tempfile, time
signal.signal(signal.SIGALRM, signal.SIG_IGN)
signal.setitimer(signal.ITIMER_REAL, 1000)
f = tempfile.NamedTemporaryFile(); os.unlink(f.name)
null = os.open("/dev/null", os.O_RDWR)
for fd in 0, 2, 1: os.dup2(null, fd)
time.sleep(1000)`))
	got, err := archive.ReadShared(unpackedFrom(t, images), &archive.Derived{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Timers != 1 || len(got.Deleted) != 1 || len(got.Processes) != 1 {
		t.Errorf("got %+v, want one process with a timer and a deleted file", got)
	}
}
