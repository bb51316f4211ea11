package restore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// open opens what the mount names, whatever that is, and none of its content.
func (m Mount) open() (*os.File, error) {
	root, err := unix.Open(m.Within, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: m.Within, Err: err}
	}
	defer unix.Close(root)
	name, err := filepath.Rel(m.Within, m.Source)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Openat2(root, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS})
	if errors.Is(err, unix.EXDEV) {
		return nil, fmt.Errorf("a link leads out of %s: %w", m.Within, errdefs.ErrPermissionDenied)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: m.Source, Err: err}
	}
	return os.NewFile(uintptr(fd), m.Source), nil
}

// bind mounts it at a path that is made for it. What is mounted there is nobody's peer: to take
// it away takes nothing away elsewhere.
func (m Mount) bind(at string) (err error) {
	f, err := m.open()
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = os.Mkdir(at, 0o700)
	} else {
		err = os.WriteFile(at, nil, 0o600)
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), at, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	return unix.Mount("", at, "", unix.MS_PRIVATE|unix.MS_REC, "")
}

// unmountBelow takes away what is mounted in dir.
func unmountBelow(dir string) error { return mount.UnmountRecursive(dir, unix.MNT_DETACH) }

// unmount takes away what bind has mounted, if it has.
func unmount(at string) error {
	err := unix.Mount("", at, "", unix.MS_PRIVATE|unix.MS_REC, "") // of one who died before
	if err == nil {
		err = unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
	if errors.Is(err, unix.EINVAL) { // nothing is mounted there
		return nil
	}
	return err
}
