//go:build linux

package e2e_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	dmverity "github.com/containerd/go-dmverity/pkg/verity"
	"github.com/lithify/lithify/convert/tree"
	"github.com/lithify/lithify/erofs/erofstest"
	"github.com/lithify/lithify/test/corpus"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestVerityMount has the kernel's device-mapper check a converted layer as it is read,
// by what the annotations say and the code that containerd opens such devices with. A
// flipped bit is not read, and under another root digest nothing is.
func TestVerityMount(t *testing.T) {
	needRoot(t)
	for _, need := range []string{"/sys/module/dm_verity", "/dev/mapper/control"} {
		if _, err := os.Stat(need); err != nil {
			t.Skipf("no dm-verity in this kernel (%v): run it in a virtual machine, test/vm/run.sh '^TestVerityMount$'", err)
		}
	}
	l := openLayer(t, "debian")
	blob, desc := publish(t, startRegistry(t), l, corpus.Gzip, "--verity")

	at, err := mountVerity(t, blob, desc, "")
	if err != nil {
		t.Fatal(err)
	}
	got, err := tree.Read(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	erofstest.CheckTrees(t, got, described(t, l))

	if at, err := mountVerity(t, blob, desc, digest.FromString("another").Encoded()); !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.EINVAL) {
		t.Errorf("mounted under another root digest: %q, %v", at, err)
	}
	flipFirst(t, blob)
	at, err = mountVerity(t, blob, desc, "")
	if err != nil {
		t.Fatalf("the superblock is as it was: %v", err)
	}
	if _, err := tree.Read(t.Context(), at); !errors.Is(err, syscall.EIO) {
		t.Errorf("a file with a flipped bit: %v, want EIO", err)
	}
}

// flipFirst flips a bit of the first file's contents, which lie behind block 0.
func flipFirst(t *testing.T, blob string) {
	t.Helper()
	f, err := os.OpenFile(blob, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], 4096); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], 4096); err != nil {
		t.Fatal(err)
	}
}

// mountVerity mounts a blob by device-mapper until the test ends. root is another root
// digest than the annotation's, in hex.
func mountVerity(t *testing.T, blob string, desc ocispec.Descriptor, root string) (at string, err error) {
	t.Helper()
	off, err := strconv.ParseUint(desc.Annotations["org.erofs.dmverity.hash_offset"], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if root == "" {
		root = digest.Digest(desc.Annotations["org.erofs.dmverity.root_digest"]).Encoded()
	}
	sum, err := hex.DecodeString(root)
	if err != nil {
		t.Fatal(err)
	}
	loop, err := mount.SetupLoop(blob, mount.LoopParams{Readonly: true, Autoclear: true})
	if err != nil {
		t.Fatal(err)
	}
	defer loop.Close()
	params := dmverity.DefaultParams()
	params.HashAreaOffset = off
	name := fmt.Sprintf("lithify-%d-%s", os.Getpid(), filepath.Base(t.TempDir()))
	if _, err := dmverity.Open(&params, name, loop.Name(), loop.Name(), sum, "", nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dmverity.Close(name); err != nil {
			t.Errorf("close %s: %v", name, err)
		}
	})
	at = t.TempDir()
	if err := syscall.Mount(deviceOf(t, name), at, "erofs", syscall.MS_RDONLY, ""); err != nil {
		return "", err
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(at, 0); err != nil {
			t.Errorf("unmount %s: %v", at, err)
		}
	})
	return at, nil
}

// deviceOf finds a device of device-mapper where no udev names it.
func deviceOf(t *testing.T, name string) string {
	t.Helper()
	names, err := filepath.Glob("/sys/block/dm-*/dm/name")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if raw, err := os.ReadFile(n); err == nil && strings.TrimSpace(string(raw)) == name {
			return "/dev/" + strings.Split(n, "/")[3]
		}
	}
	t.Fatalf("no device of the name %s among %q", name, names)
	return ""
}
