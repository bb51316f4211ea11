package erofs_test

import (
	"bytes"
	"flag"
	"fmt"
	"go/build"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lithify/lithify/convert/tree"
	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/erofs/erofstest"
	"golang.org/x/sys/unix"
)

var rootFlag = flag.Bool("test.root", false, "run tests that mount images, as root")

func needsRoot(t testing.TB) {
	t.Helper()
	if !*rootFlag {
		t.Skip("mounts images: run as root with -test.root")
	}
	if os.Getuid() != 0 {
		t.Fatal("-test.root without being root")
	}
}

// onDisk makes a temporary directory on a file system that can back a mount,
// which tmpfs cannot.
func onDisk(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "lithify-erofs-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// mount mounts an image file, without a loop device (Linux 6.12).
func mount(t testing.TB, image, options string) string {
	t.Helper()
	at := image + ".mnt"
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(image, at, "erofs", unix.MS_RDONLY, options); err != nil {
		t.Fatalf("mount %s -o %q: %v (file-backed EROFS needs Linux 6.12)", image, options, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, 0); err != nil {
			t.Errorf("unmount %s: %v", at, err)
		}
	})
	return at
}

// mountTar converts a tar file and mounts the image.
func mountTar(t testing.TB, src []byte, opts erofs.Options) (image, at string) {
	t.Helper()
	image = filepath.Join(onDisk(t), "image")
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := erofs.Convert(t.Context(), f, bytes.NewReader(src), opts); err != nil {
		t.Fatal(err)
	}
	if opts.Profile != erofs.ProfileIndex {
		return image, mount(t, image, "")
	}
	device := image + ".tar"
	if err := os.WriteFile(device, src, 0o600); err != nil {
		t.Fatal(err)
	}
	return image, mount(t, image, "device="+device)
}

// extract unpacks a tar with GNU tar.
func extract(t testing.TB, src []byte) string {
	t.Helper()
	dir := onDisk(t)
	cmd := exec.CommandContext(t.Context(), "tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-C", dir, "-xpf", "-")
	cmd.Stdin = bytes.NewReader(src)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	return dir
}

// packed is a tar that GNU tar makes of a tree that script builds in its
// working directory.
func packed(t testing.TB, script string, tarArgs ...string) []byte {
	t.Helper()
	dir := onDisk(t)
	make := exec.CommandContext(t.Context(), "sh", "-euc", script)
	make.Dir = dir
	if out, err := make.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	pack := exec.CommandContext(t.Context(), "tar", append(append([]string{"-C", dir, "-cf", "-"}, tarArgs...), ".")...)
	out, err := pack.Output()
	if err != nil {
		t.Fatalf("tar: %v", err)
	}
	return out
}

const oddTree = `
echo hello > plain; : > empty; head -c 4096 /dev/zero > block; head -c 1234567 /dev/urandom > big
ln plain hard; ln -s plain link; ln -s /nowhere dangling; ln link hard-link
mkfifo fifo; mknod char c 1 3; mknod block-device b 259 70000
chmod 4755 plain; chmod 1777 . ; mkdir -p a/b/c many; chmod 2750 a/b; chown -h 1000:2000 link a/b; chown 4294967294 empty
touch -d '1960-01-01 00:00:00.123456789' block; touch -d '2200-01-01 00:00:00.987654321' a/b/c
i=0; while [ $i -lt 900 ]; do echo $i > many/a-file-of-some-length-$i; i=$((i+1)); done
n=$(printf '%0255d' 7); : > $n; mkdir -p $(printf '%0200d/%0200d/%0200d' 1 2 3); echo x > "$(printf 'new\nline')"; echo x > ünïcödé; echo x > "$(printf 'bytes-\377\376')"
truncate -s 20M hole; truncate -s 30M sparse; echo data | dd of=sparse bs=1 seek=9999999 conv=notrunc 2>/dev/null; echo tail >> sparse
truncate -s 100K small; echo y | dd of=small bs=1 seek=50000 conv=notrunc 2>/dev/null
i=0; truncate -s 40M pieces; while [ $i -lt 40 ]; do echo piece$i | dd of=pieces bs=1 seek=$((i*999983)) conv=notrunc 2>/dev/null; i=$((i+1)); done
python3 - <<'END'
import os
os.setxattr("plain", "user.x", b"1"); os.setxattr("a", "user.dir", b"v" * 3000); os.setxattr("a", "trusted.t", bytes(range(256)))
os.setxattr("big", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
os.setxattr("a/b", "system.posix_acl_default", bytes.fromhex("02000000" "01000700ffffffff" "02000700e8030000" "04000500ffffffff" "10000700ffffffff" "20000500ffffffff"))
os.setxattr("link", "trusted.link", b"on a link", follow_symlinks=False)
END
`

// layouts are the options by which images differ in where contents lie.
var layouts = map[string]erofs.Options{
	"erofs":     {},
	"inline":    {InlineTails: true},
	"erofs-tar": {Profile: erofs.ProfileTar},
	"index":     {Profile: erofs.ProfileIndex},
}

// checkMounts compares the mounted images of a tar with GNU tar's extraction.
func checkMounts(t *testing.T, src []byte) {
	t.Helper()
	want := extract(t, src)
	for name, opts := range layouts {
		t.Run(name, func(t *testing.T) {
			image, at := mountTar(t, src, opts)
			erofstest.CompareTrees(t, at, want)
			if opts.Profile == erofs.ProfileIndex {
				erofstest.Fsck(t, image, "--extract", "--device="+image+".tar")
				return
			}
			erofstest.Fsck(t, image)
		})
	}
}

// TestKernel compares mounted images with GNU tar's extraction by root.
func TestKernel(t *testing.T) {
	needsRoot(t)
	for name, args := range map[string][]string{
		"pax":        {"--format=pax", "--xattrs", "--xattrs-include=*", "--sparse"},
		"pax-0.0":    {"--format=pax", "--sparse", "--sparse-version=0.0"},
		"pax-0.1":    {"--format=pax", "--sparse", "--sparse-version=0.1"},
		"gnu sparse": {"--format=gnu", "--sparse"},
		"gnu":        {"--format=gnu"},
		"posix":      {"--format=posix", "--xattrs", "--xattrs-include=*"},
	} {
		t.Run(name, func(t *testing.T) {
			checkMounts(t, packed(t, oddTree, args...))
		})
	}
}

// TestKernelRealTrees does the same for a Debian root and the Go toolchain.
func TestKernelRealTrees(t *testing.T) {
	needsRoot(t)
	for name, dir := range map[string]string{"debian": erofstest.DebianRoot, "go": build.Default.GOROOT + "/src"} {
		t.Run(name, func(t *testing.T) {
			if _, err := os.Stat(dir); err != nil {
				t.Skip(err)
			}
			src, err := exec.CommandContext(t.Context(), "tar", "-C", dir, "--xattrs", "--xattrs-include=*", "--format=pax", "-cf", "-", ".").Output()
			if err != nil {
				t.Fatalf("tar: %v", err)
			}
			checkMounts(t, src)
		})
	}
}

// TestKernelOddLayer mounts what GNU tar cannot extract: whiteouts, names that
// come twice, directories that the tar does not list.
func TestKernelOddLayer(t *testing.T) {
	needsRoot(t)
	hole := int64(1 << 30)
	if testing.Short() {
		hole = 1 << 26 // it is read once for each layout
	}
	for name, src := range map[string][]byte{
		"odd":       oddLayer(t),
		"whiteouts": makeTar(t, file("a/.wh.gone", ""), file("b/.wh..wh..opq", ""), file("b/c/d", "x"), file(".wh.e", ""), file("e/f", "x")),
		"sparse":    rawTar(gnuSparse("s", 30<<20, sparsePieces(60, 1<<19)...), gnuSparse("hole", hole), append(paxHeader('x', "SCHILY.xattr.user.x", "1234"), gnuSparse("x", 9<<20, sparsePieces(4, 2<<20)...)...)),
		"empty":     make([]byte, 1024),
	} {
		t.Run(name, func(t *testing.T) {
			want, _, err := erofstest.FromTar(bytes.NewReader(src), false)
			if err != nil {
				t.Fatal(err)
			}
			for layout, opts := range layouts {
				opts.Verity = opts.Profile == "" // what lies behind an image does not matter
				_, at := mountTar(t, src, opts)
				got, err := tree.Read(t.Context(), at)
				if err != nil {
					t.Fatal(err)
				}
				if d := erofstest.Diff(got, want); d != "" {
					t.Errorf("%s: trees differ:\n%s", layout, d)
				}
			}
		})
	}
}

// TestKernelOpaqueRoot lets the kernel stack two layers. It does not heed an
// opaque mark in a root.
func TestKernelOpaqueRoot(t *testing.T) {
	needsRoot(t)
	_, low := mountTar(t, makeTar(t, dir("tmp", 0o1777), file("tmp/old", ""), file("secret", ""), file("stays", "old")), erofs.Options{Bottom: true})
	_, up := mountTar(t, opaqueRoot(t), erofs.Options{Context: &erofs.Context{RootNames: []string{"secret", "stays", "tmp"}}})
	at := onDisk(t)
	if err := unix.Mount("overlay", at, "overlay", unix.MS_RDONLY, "lowerdir="+up+":"+low); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(at, 0)
	files, err := tree.Read(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := slices.Sorted(maps.Keys(files)), []string{".", "late", "late/y", "stays", "tmp", "tmp/x"}; !slices.Equal(got, want) {
		t.Errorf("a container sees %q, want %q", got, want)
	}
}

// TestKernelLookup looks names up one by one: the kernel searches directories
// by halves, which a listing does not show.
func TestKernelLookup(t *testing.T) {
	needsRoot(t)
	var entries []entry
	for i := range 3000 {
		entries = append(entries, file(fmt.Sprintf("dir/%c%d-%s", '!'+i%90, i, strings.Repeat("n", i%200)), ""))
	}
	for i := range entries {
		entries[i].Name = "dir/" + strings.ReplaceAll(strings.TrimPrefix(entries[i].Name, "dir/"), "/", "-")
	}
	for layout, opts := range layouts {
		_, at := mountTar(t, makeTar(t, entries...), opts)
		for _, e := range entries {
			if _, err := os.Lstat(filepath.Join(at, e.Name)); err != nil {
				t.Errorf("%s: %v", layout, err)
			}
		}
		if _, err := os.Lstat(filepath.Join(at, "dir", "no such name")); !os.IsNotExist(err) {
			t.Errorf("%s: got %v for a name that is not there", layout, err)
		}
	}
}

// TestKernelIndex mounts an image and its tar, as files, as block devices, and as one file
// without device=.
func TestKernelIndex(t *testing.T) {
	needsRoot(t)
	src := makeTar(t, dir("d", 0o700), file("d/small", "small"), file("big", strings.Repeat("0123456789abcdef", 100_000)), hardlink("d/hard", "big"), symlink("l", "big"))
	image, asFiles := mountTar(t, src, erofs.Options{Profile: erofs.ProfileIndex})
	want, _, err := erofstest.FromTar(bytes.NewReader(src), false)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	one := image + ".one"
	if err := os.WriteFile(one, append(blob, src...), 0o600); err != nil {
		t.Fatal(err)
	}
	loops := image + ".loops"
	if err := os.Mkdir(loops, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(loop(t, image), loops, "erofs", unix.MS_RDONLY, "device="+loop(t, image+".tar")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(loops, 0) })
	for name, at := range map[string]string{"files": asFiles, "block devices": loops, "one file": mount(t, one, "")} {
		got, err := tree.Read(t.Context(), at)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := erofstest.Diff(got, want); d != "" {
			t.Errorf("%s: trees differ:\n%s", name, d)
		}
	}
}

// loop gives a block device of a file.
func loop(t *testing.T, file string) string {
	t.Helper()
	losetup := erofstest.Program(t, "losetup")
	out, err := exec.Command(losetup, "--find", "--show", "--read-only", file).Output()
	if err != nil {
		t.Fatalf("losetup %s: %v", file, err)
	}
	name := strings.TrimSpace(string(out))
	t.Cleanup(func() { exec.Command(losetup, "--detach", name).Run() })
	return name
}
