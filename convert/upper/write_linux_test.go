package upper_test

import (
	"archive/tar"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/lithify/lithify/convert/tree"
	"github.com/lithify/lithify/convert/upper"
	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/erofs/erofstest"
)

var rootFlag = flag.Bool("test.root", false, "run tests that mount, as root")

// overlay is a container's view: an overlay mount on directories of ext4.
type overlay struct {
	t                    testing.TB
	dir                  string
	lower, upper, merged string
}

// newOverlay fills the lower directory by the shell script below and mounts.
func newOverlay(t testing.TB, below string) *overlay {
	t.Helper()
	if !*rootFlag || os.Getuid() != 0 {
		t.Skip("mounts overlayfs: run as root with -test.root")
	}
	dir, err := os.MkdirTemp("/var/tmp", "lithify-upper") // overlayfs wants no overlayfs below its upper directory
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	o := &overlay{t, dir, dir + "/lower", dir + "/upper", dir + "/merged"}
	for _, d := range []string{o.lower, o.upper, o.merged, dir + "/work"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	shell(t, o.lower, below)
	mount(t, "overlay", o.merged, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s/work,redirect_dir=off,metacopy=off", o.lower, o.upper, dir))
	return o
}

func mount(t testing.TB, fstype, at, options string) {
	t.Helper()
	if err := unix.Mount(fstype, at, fstype, 0, options); err != nil {
		t.Fatalf("mount %s: %v", options, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", at, err)
		}
	})
}

func shell(t testing.TB, dir, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func write(t testing.TB, dir string, o upper.Options) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := upper.Write(t.Context(), &b, dir, o); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const below = `
umask 022
mkdir -p etc usr/bin opt/app/deep var/secret empty swap
chmod 700 var/secret
for i in 1 2 3; do echo "$i" > opt/app/f$i; echo "$i" > opt/app/deep/f$i; done
echo a > etc/gone; echo b > etc/kept; echo c > etc/changed; echo d > usr/bin/tool; chmod 4755 usr/bin/tool
ln usr/bin/tool usr/bin/tool2
ln -s etc/kept link
echo file > swap/file
mkdir swap/dir
echo x > swap/dir/x
touch -d @1000000000.123456789 etc/kept opt/app
`

const changes = `
rm etc/gone
echo more >> etc/changed
rm -r opt/app && mkdir opt/app && echo new > opt/app/new
mkdir -m 700 -p new/deep/tree && head -c 3000000 /dev/urandom > new/deep/tree/big
ln new/deep/tree/big new/hard
mv etc/kept etc/moved
ln -s ../nowhere new/dangling
mkfifo new/pipe
mknod new/dev c 5 1
chmod 600 usr/bin/tool
rm -r swap/dir && echo now a file > swap/dir
rm swap/file && mkdir swap/file && echo y > swap/file/y
echo s > var/secret/s
chown 1000:1000 var/secret/s
: > "new/a name with
newline"
touch -d @1700000000.987654321 new/hard
`

// setXattrs makes what a shell here cannot.
func setXattrs(t testing.TB, merged string) {
	t.Helper()
	for name, value := range map[string]string{"user.note": "a\x00b", "security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"} {
		if err := unix.Setxattr(merged+"/new/hard", name, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Setxattr(merged+"/var/secret", "user.dir", []byte("d"), 0); err != nil {
		t.Fatal(err)
	}
}

// view is a directory as a container sees it. overlayfs counts links by the layer a
// file comes from; Same tells which names are one file.
func view(t testing.TB, dir string) tree.Tree {
	t.Helper()
	files, err := tree.Read(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, e := range files {
		e.Nlink = 0
		if len(e.Xattrs) == 0 {
			e.Xattrs = nil
		}
		files[name] = e
	}
	return files
}

// TestLayer: lower layer and tar make what the container sees, applied by
// containerd and as EROFS layers under the kernel's overlayfs.
func TestLayer(t *testing.T) {
	o := newOverlay(t, below)
	shell(t, o.merged, changes)
	setXattrs(t, o.merged)
	layer := write(t, o.upper, upper.Options{})
	want := view(t, o.merged)

	t.Run("containerd", func(t *testing.T) {
		dir := filepath.Join(o.dir, "applied")
		shell(t, o.dir, "cp -a lower applied")
		if _, err := archive.Apply(context.Background(), dir, bytes.NewReader(layer)); err != nil {
			t.Fatal(err)
		}
		got, want := view(t, dir), view(t, o.merged)
		delete(got, ".") // which containerd's applier passes over
		delete(want, ".")
		erofstest.CheckTrees(t, got, want)
	})
	t.Run("EROFS", func(t *testing.T) {
		base := image(t, o.dir, "base", tarOf(t, o.lower), true)
		top := image(t, o.dir, "top", layer, false)
		stacked := filepath.Join(o.dir, "stacked")
		if err := os.Mkdir(stacked, 0o755); err != nil {
			t.Fatal(err)
		}
		mount(t, "overlay", stacked, fmt.Sprintf("lowerdir=%s:%s", top, base))
		erofstest.CheckTrees(t, view(t, stacked), want)
	})
	if again := write(t, o.upper, upper.Options{}); !bytes.Equal(again, layer) {
		t.Error("the same directory gave other bytes")
	}
}

// tarOf is GNU tar's of a directory.
func tarOf(t testing.TB, dir string) []byte {
	t.Helper()
	out, err := exec.Command("tar", "--xattrs", "--format=pax", "-C", dir, "-c", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// image converts a tar and mounts what comes of it.
func image(t testing.TB, dir, name string, layer []byte, bottom bool) string {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, name+".erofs"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l, err := erofs.Convert(t.Context(), f, bytes.NewReader(layer), erofs.Options{Bottom: bottom})
	if err != nil {
		t.Fatal(err)
	}
	if !l.Needs.IsZero() {
		t.Errorf("layer %s needs %+v of those below", name, l.Needs)
	}
	at := filepath.Join(dir, name)
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(f.Name(), at, "erofs", unix.MS_RDONLY, ""); err != nil {
		t.Fatalf("mount %s: %v", f.Name(), err)
	}
	t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
	return at
}

// entries are the headers of a tar by name; a name that comes twice fails the test.
func entries(t testing.TB, layer []byte) map[string]*tar.Header {
	t.Helper()
	all := map[string]*tar.Header{}
	for r := tar.NewReader(bytes.NewReader(layer)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if all[h.Name] != nil {
			t.Errorf("%s comes twice", h.Name)
		}
		all[h.Name] = h
	}
}

func TestMarks(t *testing.T) {
	o := newOverlay(t, below)
	shell(t, o.merged, changes)
	got := entries(t, write(t, o.upper, upper.Options{}))
	for _, name := range []string{"./", "etc/", "etc/.wh.gone", "opt/app/", "opt/app/.wh..wh..opq", "opt/app/new", "swap/file/.wh..wh..opq", "etc/.wh.kept"} {
		if got[name] == nil {
			t.Errorf("no entry %s", name)
		}
	}
	for _, name := range []string{"etc/.wh..wh..opq", "opt/app/.wh.f1", "usr/bin/tool2", "empty/"} {
		if got[name] != nil {
			t.Errorf("an entry %s, which has not changed", name)
		}
	}
}

func TestModTime(t *testing.T) {
	o := newOverlay(t, below)
	shell(t, o.merged, changes)
	epoch := time.Unix(1_200_000_000, 0)
	for name, h := range entries(t, write(t, o.upper, upper.Options{ModTime: epoch})) {
		want := epoch
		if name == "etc/moved" { // older than that
			want = time.Unix(1000000000, 123456789)
		}
		if !h.ModTime.Equal(want) {
			t.Errorf("%s is of %v, want %v", name, h.ModTime, want)
		}
	}
}

// TestOwner: owners are those inside the container's user namespace, in capabilities and
// ACLs too.
func TestOwner(t *testing.T) {
	o := newOverlay(t, below)
	shell(t, o.merged, "echo > root; chown 100000:100000 root; echo > user; chown 101000:100100 user; echo > outside; chown 7:7 outside")
	const rights = "\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	for attr, value := range map[string]string{
		"security.capability":     "\x01\x00\x00\x03" + rights + "\xa0\x86\x01\x00",
		"system.posix_acl_access": "\x02\x00\x00\x00" + "\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\x88\x8a\x01\x00" + "\x04\x00\x04\x00\xff\xff\xff\xff" + "\x08\x00\x04\x00\x04\x87\x01\x00" + "\x10\x00\x04\x00\xff\xff\xff\xff" + "\x20\x00\x04\x00\xff\xff\xff\xff",
	} {
		if err := unix.Setxattr(filepath.Join(o.upper, "user"), attr, []byte(value), 0); err != nil {
			t.Fatalf("%s: %v", attr, err)
		}
	}
	shift := func(id uint32) uint32 {
		if id < 100000 {
			return id
		}
		return id - 100000
	}
	got := entries(t, write(t, o.upper, upper.Options{Owner: func(uid, gid uint32) (uint32, uint32) { return shift(uid), shift(gid) }}))
	for name, want := range map[string][2]int{"root": {0, 0}, "user": {1000, 100}, "outside": {7, 7}} {
		if h := got[name]; h.Uid != want[0] || h.Gid != want[1] {
			t.Errorf("%s is owned by %d:%d, want %v", name, h.Uid, h.Gid, want)
		}
	}
	for attr, want := range map[string]string{
		"security.capability":     "\x01\x00\x00\x02" + rights,
		"system.posix_acl_access": "\x02\x00\x00\x00" + "\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\xe8\x03\x00\x00" + "\x04\x00\x04\x00\xff\xff\xff\xff" + "\x08\x00\x04\x00\x64\x00\x00\x00" + "\x10\x00\x04\x00\xff\xff\xff\xff" + "\x20\x00\x04\x00\xff\xff\xff\xff",
	} {
		if got := got["user"].PAXRecords["SCHILY.xattr."+attr]; got != want {
			t.Errorf("%s is %q, want %q", attr, got, want)
		}
	}
}

func TestSkip(t *testing.T) {
	o := newOverlay(t, below)
	shell(t, o.merged, changes)
	got := entries(t, write(t, o.upper, upper.Options{Skip: func(name string, _ fs.DirEntry) bool {
		return name == "new" || name == "etc/gone"
	}}))
	for name := range got {
		if strings.HasPrefix(name, "new/") || name == "etc/.wh.gone" {
			t.Errorf("%s is there", name)
		}
	}
	if got["etc/.wh.kept"] == nil {
		t.Error("what is not skipped is gone")
	}
}

// TestRefused: what a tar cannot say is an error that names the file.
func TestRefused(t *testing.T) {
	for name, c := range map[string]struct{ options, script, want string }{
		"metacopy": {"metacopy=on,redirect_dir=on", "chmod 600 etc/kept", "metacopy"},
		"redirect": {"redirect_dir=on", "mv opt/app opt/other", "redirect_dir"},
		"whiteout": {"redirect_dir=off", "echo > etc/.wh.x", ".wh."},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOverlay(t, below)
			if err := unix.Unmount(o.merged, 0); err != nil {
				t.Fatal(err)
			}
			options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s/work,%s", o.lower, o.upper, o.dir, c.options)
			if err := unix.Mount("overlay", o.merged, "overlay", 0, options); err != nil {
				t.Fatal(err)
			}
			shell(t, o.merged, c.script)
			err := upper.Write(t.Context(), io.Discard, o.upper, upper.Options{})
			if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want one about %s", err, c.want)
			}
		})
	}
}

// TestNoEscape: links in the directory lead nowhere.
func TestNoEscape(t *testing.T) {
	o := newOverlay(t, below)
	shell(t, o.merged, "ln -s /etc/passwd passwd; ln -s / root; mkdir d; ln -s ../../../../etc d/up")
	got := entries(t, write(t, o.upper, upper.Options{}))
	want := []string{"./", "d/", "d/up", "passwd", "root"}
	names := make([]string, 0, len(got))
	for name, h := range got {
		names = append(names, name)
		if h.Size != 0 {
			t.Errorf("%s has %d bytes", name, h.Size)
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, want) {
		t.Errorf("entries %v, want %v", names, want)
	}
}

// A container that is not paused may put something else in the place of what has just
// been looked at: a pipe, which nobody opens without waiting, or a device node, which is
// this machine's disk.
func TestReplaced(t *testing.T) {
	for name, tc := range map[string]struct{ before, replace string }{
		"directory": {"mkdir a", "rmdir a && mkfifo a"},
		"file":      {"echo first > a", "echo other > b && mv b a"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			shell(t, dir, tc.before)
			replace := exec.Command("sh", "-ec", tc.replace)
			replace.Dir = dir
			w := writerFunc(func(p []byte) (int, error) {
				if bytes.HasPrefix(p, []byte("a")) && replace.Process == nil { // the header of a
					return len(p), replace.Run()
				}
				return len(p), nil
			})
			ended := make(chan error, 1)
			go func() { ended <- upper.Write(t.Context(), w, dir, upper.Options{}) }()
			select {
			case err := <-ended:
				if !replace.ProcessState.Success() || err == nil {
					t.Errorf("%v: got %v, want an error", replace, err)
				}
			case <-time.After(time.Minute):
				t.Error("it waits for a pipe")
			}
		})
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestCancelled(t *testing.T) {
	o := newOverlay(t, below)
	shell(t, o.merged, changes)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(io.ErrClosedPipe)
	if err := upper.Write(ctx, io.Discard, o.upper, upper.Options{}); err != io.ErrClosedPipe {
		t.Errorf("error is %v, want the cause", err)
	}
}
