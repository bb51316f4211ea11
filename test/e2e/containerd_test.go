//go:build linux

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// daemon is a containerd of this test's own.
type daemon struct {
	t       testing.TB
	address string
	process *process
}

// The layout of version 4: [grpc] and its kin became plugins in containerd 2.4,
// and a daemon that finds the old ones listens on the machine's own socket.
const containerdConfig = `version = 4
root = "%[1]s/root"
state = "%[1]s/state"
disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri", "io.containerd.podsandbox.controller.v1.podsandbox"]
[plugins."io.containerd.server.v1.grpc"]
  address = "%[1]s/containerd.sock"
[plugins."io.containerd.server.v1.ttrpc"]
  address = "%[1]s/containerd.sock.ttrpc"
[plugins."io.containerd.server.v1.debug"]
  address = "%[1]s/debug.sock"
[plugins."io.containerd.differ.v1.erofs"]
  mkfs_options = ["-T0", "--mkfs-time", "--sort=none"]
[plugins."io.containerd.service.v1.diff-service"]
  default = ["erofs", "walking"]
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux(+erofs)/amd64"
  snapshotter = "erofs"
  differ = "erofs"
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux/amd64"
  snapshotter = "erofs"
  differ = "erofs"
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux/amd64"
  snapshotter = "overlayfs"
  differ = "walking"
`

// startContainerd waits until the daemon answers and both snapshotters are up. more is
// added to its configuration.
func startContainerd(t testing.TB, more ...string) *daemon {
	t.Helper()
	d := launchContainerd(t, more...)
	await(t, "containerd", func(context.Context) error {
		out, err := try(t, need(t, "ctr"), "--address", d.address, "plugins", "ls")
		if err != nil {
			return err
		}
		return pluginsUp(out)
	})
	return d
}

// launchContainerd does not wait.
func launchContainerd(t testing.TB, more ...string) *daemon {
	t.Helper()
	needRoot(t)
	for _, name := range []string{"ctr", "containerd-shim-runc-v2", "runc", "mkfs.erofs"} {
		need(t, name)
	}
	// A socket's path has at most 107 bytes, and file-backed mounts need ext4.
	dir, err := os.MkdirTemp("/var/tmp", "lithify")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeAll(t, dir) })
	config := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, containerdConfig+strings.Join(more, ""), dir), 0o600); err != nil {
		t.Fatal(err)
	}
	d := &daemon{t: t, address: filepath.Join(dir, "containerd.sock")}
	d.process = start(t, command(t, need(t, "containerd"), "--config", config))
	return d
}

func pluginsUp(list string) error {
	for _, want := range []string{"snapshotter.v1 erofs", "snapshotter.v1 overlayfs", "differ.v1 erofs"} {
		up := false
		for line := range strings.Lines(list) {
			f := strings.Fields(line)
			if len(f) > 2 && strings.HasSuffix(f[0]+" "+f[1], want) && f[len(f)-1] == "ok" {
				up = true
			}
		}
		if !up {
			return fmt.Errorf("no %s in:\n%s", want, list)
		}
	}
	return nil
}

func (d *daemon) ctr(args ...string) string {
	d.t.Helper()
	return output(d.t, need(d.t, "ctr"), append([]string{"--address", d.address}, args...)...)
}

// on are the flags that take an image's EROFS variant where there is one: without
// the platform containerd 2.4 pulls and runs the tar variant on any snapshotter.
func on(snapshotter string) []string {
	if snapshotter == "erofs" {
		return []string{"--snapshotter", "erofs", "--platform", "linux(+erofs)/amd64"}
	}
	return []string{"--snapshotter", snapshotter}
}

func (d *daemon) pull(ref, snapshotter string) {
	d.t.Helper()
	d.ctr(append(append([]string{"images", "pull", "--plain-http"}, on(snapshotter)...), ref)...)
}

// run starts a container, waits for its end and returns what it wrote.
func (d *daemon) run(ref, snapshotter string, args ...string) string {
	d.t.Helper()
	id := digest.FromString(ref + snapshotter + strings.Join(args, " ")).Encoded()[:12]
	flags := append([]string{"run", "--rm", "--cgroup", "/lithify-e2e/" + id}, on(snapshotter)...)
	return d.ctr(append(append(flags, ref, id), args...)...)
}

// entry is what test/e2e/probe prints of a path.
type entry struct {
	Mode           string
	UID, GID       uint32
	Links          uint64
	Content, Error string
}

func (d *daemon) probe(ref, snapshotter string, paths ...string) map[string]entry {
	d.t.Helper()
	out := d.run(ref, snapshotter, append([]string{"/probe"}, paths...)...)
	var seen map[string]entry
	if err := json.Unmarshal([]byte(out), &seen); err != nil {
		d.t.Fatalf("probe printed %q: %v", out, err)
	}
	return seen
}
