package restore

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/lithify/lithify/convert/stack"
)

// tenants is a directory of a machine, in which somebody has left links, beside one that is not
// theirs.
func tenants(t *testing.T) (dir string) {
	t.Helper()
	root := t.TempDir()
	dir = filepath.Join(root, "tenants")
	if err := errors.Join(
		os.MkdirAll(filepath.Join(dir, "web/data"), 0o755), os.Mkdir(filepath.Join(root, "etc"), 0o755),
		os.WriteFile(filepath.Join(dir, "web/file"), []byte("of web"), 0o600), os.WriteFile(filepath.Join(root, "etc/file"), []byte("of the machine"), 0o600),
		os.Symlink("data", filepath.Join(dir, "web/current")), os.Symlink("../../etc", filepath.Join(dir, "web/out")), os.Symlink(filepath.Join(root, "etc"), filepath.Join(dir, "web/absolute")),
		os.Symlink("/proc/self/root", filepath.Join(dir, "web/magic")), syscall.Mkfifo(filepath.Join(dir, "web/pipe"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestMountWithin(t *testing.T) {
	dir := tenants(t)
	listens, err := net.Listen("unix", filepath.Join(dir, "web/socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer listens.Close()
	for source, want := range map[string]string{ // the name of what is mounted; "": it is refused
		"web/data": "web/data", "web/current": "web/data", "web/file": "web/file", "web/pipe": "web/pipe", "web/socket": "web/socket", "web/out/../../web/data": "web/data",
		"web/out": "", "web/out/file": "", "web/absolute": "", "web/absolute/file": "", "web/magic": "", "../etc": "",
	} {
		f, err := Mount{Source: dir + "/" + source, Within: dir}.open()
		if want == "" {
			if !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), dir) {
				t.Errorf("%s: got %v, want it denied", source, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		info, err := f.Stat()
		wanted, werr := os.Lstat(filepath.Join(dir, want))
		if err := errors.Join(err, werr, f.Close()); err != nil || !os.SameFile(info, wanted) {
			t.Errorf("%s: %v, it is not %s", source, err, want)
		}
	}
}

// What is mounted is what was found, whatever is put in its place, and when it is taken away, by
// this process or by who comes after it, nothing goes with it.
func TestBind(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounts: run as root")
	}
	mount := func(at string) string { // has what is mounted below it wherever it is itself
		t.Helper()
		if err := errors.Join(os.MkdirAll(at, 0o755), unix.Mount("lithify-test", at, "tmpfs", 0, ""), unix.Mount("", at, "", unix.MS_SHARED, "")); err != nil {
			t.Fatal(err)
		}
		return at
	}
	dir := mount(t.TempDir())
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	data, moved := filepath.Join(dir, "web/data"), filepath.Join(dir, "web/moved")
	if err := errors.Join(os.WriteFile(filepath.Join(mount(data+"/shared"), "precious"), nil, 0o600), os.WriteFile(filepath.Join(dir, "web/file"), []byte("of web"), 0o600)); err != nil {
		t.Fatal(err)
	}
	r := &run{daemon: &stack.Daemon{}, opts: Options{Name: "web", Root: t.TempDir(), Mounts: []Mount{
		{Source: data, Within: dir}, {Source: filepath.Join(dir, "web/file"), Within: dir}, {Source: "/etc"},
	}}}
	if err := os.MkdirAll(r.binds(), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.unbind() }) // of a test that fails
	for i, m := range r.opts.Mounts[:2] {
		if err := m.bind(r.bound(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Rename(data, moved), os.Symlink("/etc", data)); err != nil {
		t.Fatal(err)
	}
	if got := r.source(2); got != "/etc" {
		t.Errorf("a mount that may be of anywhere is of %s", got)
	}
	if names, err := os.ReadDir(r.source(0)); err != nil || len(names) != 1 || names[0].Name() != "shared" {
		t.Errorf("the container would have %v, %v, want what was found", names, err)
	}
	if got, err := os.ReadFile(r.source(1)); err != nil || string(got) != "of web" {
		t.Errorf("the container would have %q, %v, want what was found", got, err)
	}
	for range 2 { // the second time there is nothing
		if err := r.unbind(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(r.binds()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left: %s, %v", r.binds(), err)
	}
	if _, err := os.Stat(filepath.Join(moved, "shared/precious")); err != nil {
		t.Errorf("what was mounted is gone: %v", err)
	}
}
