//go:build linux

package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/lithify/lithify/restore"
)

// cniConf is a bridge of this test's own, with addresses that are for tests (RFC 2544).
const cniConf = `{"cniVersion": "1.0.0", "name": "lithify-e2e", "plugins": [{
  "type": "bridge", "bridge": %q, "isGateway": true,
  "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "198.18.%d.0/24"}]]}}]}`

// withCNI gives the flags of a restore by CNI plugins, and lists the addresses that they
// have given away.
func withCNI(t *testing.T) (flags []string, given func() []string) {
	t.Helper()
	bin, conf, data := t.TempDir(), t.TempDir(), t.TempDir()
	for _, name := range []string{"bridge", "host-local"} {
		if err := os.Symlink(need(t, "cni-"+name), filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	n := time.Now().UnixNano()
	bridge := fmt.Sprintf("lith%08x", uint32(n))
	const forward = "/proc/sys/net/ipv4/ip_forward" // which the plugin turns on
	was, err := os.ReadFile(forward)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		exec.Command("ip", "link", "delete", bridge).Run()
		if err := os.WriteFile(forward, was, 0o644); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(conf, "10-e2e.conflist"), fmt.Appendf(nil, cniConf, bridge, data, n%256), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--network", "cni", "--cni-conf-dir", conf, "--cni-bin-dir", bin}, func() (ips []string) {
		files, _ := os.ReadDir(filepath.Join(data, "lithify-e2e"))
		for _, f := range files {
			if net.ParseIP(f.Name()) != nil {
				ips = append(ips, f.Name())
			}
		}
		return ips
	}
}

// TestRestoreCNI gives two clones of a container without a network an address each. What
// fails, and what is killed and done again, keeps none.
func TestRestoreCNI(t *testing.T) {
	hold, at, release := holdCRIU(t)
	d, _, _, ref := saved(t, 2, "overlayfs")
	flags, given := withCNI(t)
	t.Cleanup(func() { // mounts of theirs, which the daemon's directory could not be removed with
		files, _ := filepath.Glob(filepath.Join(d.restoreRoot(), "netns/*/*"))
		for _, f := range files {
			syscall.Unmount(f, syscall.MNT_DETACH)
		}
	})
	args := func(name string, more ...string) []string { return d.restoreArgs(ref, name, append(flags, more...)...) }

	if code, said := exit(t, lithify(t), args("two", "--refresh", "exit 3")...); code != 1 {
		t.Errorf("a restore that fails: exit code %d, %q", code, said)
	}
	if ips := given(); len(ips) > 0 {
		t.Errorf("given to what has failed: %v", ips)
	}
	var all []string
	for _, name := range []string{"two", "three"} {
		c := d.restored(t, name)
		hold()
		p := start(t, command(t, lithify(t), args(name)...))
		at()
		if err := p.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-p.ended
		if code, said := exit(t, lithify(t), args(name, "--limit", "1s")...); code != 5 { // and CRIU is held still
			t.Errorf("a restore that takes too long: exit code %d, %q", code, said)
		}
		release()
		var r restore.Result
		if err := json.Unmarshal([]byte(output(t, lithify(t), args(name, "-o", "json")...)), &r); err != nil {
			t.Fatal(err)
		}
		c.goesOn(t, c.count(t))
		if len(r.IPs) != 1 {
			t.Fatalf("addresses of %s: %v, want one", name, r.IPs)
		}
		ip := r.IPs[0].String()
		all = append(all, ip)
		// The container answers that nobody listens.
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(ip, "9"), 10*time.Second)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("connect to %s: %v, %v; want the container to refuse it", ip, conn, err)
		}
		if got := c.does(t, "grep -c eth0: /proc/net/dev; grep -c 'lo:' /proc/net/dev"); got != "1\n1\n" {
			t.Errorf("devices of %s: %q", name, got)
		}
	}
	if ips := given(); !slices.Equal(ips, slices.Sorted(slices.Values(all))) || all[0] == all[1] {
		t.Errorf("given: %v, want %v", ips, all)
	}

	// One that was removed behind our back has its address until its name is used again, and as
	// after a restart of the machine its namespace is not mounted then.
	d.ctr("tasks", "kill", "-s", "KILL", "two")
	(&container{d, "two", ""}).awaits(t, "STOPPED")
	d.ctr("tasks", "rm", "two")
	d.ctr("containers", "rm", "two")
	if err := syscall.Unmount(filepath.Join(d.restoreRoot(), "netns/default/two"), syscall.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	output(t, lithify(t), d.restoreArgs(ref, "two")...)
	if ips := given(); !slices.Equal(ips, all[1:]) {
		t.Errorf("given: %v, want that of three alone", ips)
	}
	if code, said := exit(t, lithify(t), d.restoreArgs(ref, "four", "--network", "cni", "--cni-conf-dir", t.TempDir())...); code == 0 {
		t.Errorf("without a configuration: exit code %d, %q", code, said)
	}
}
