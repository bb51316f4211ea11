package preflight

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/lithify/lithify/erofs"
	"golang.org/x/sys/unix"
)

// EROFS mounts a small image that lies in dir as containerd does it: from its file, or
// else by a loop device. It says which.
func EROFS(ctx context.Context, dir string) (how string, err error) {
	how, err = tryEROFSFile(ctx, Options{Dir: dir})
	if errors.Is(err, unix.ENOTBLK) {
		how, err = tryEROFSLoop(ctx, Options{Dir: dir})
	}
	return how, err
}

func tryEROFSFile(ctx context.Context, o Options) (string, error) {
	return "from a file", within(o.Dir, func(at string) error {
		image, err := smallImage(ctx, at)
		if err != nil {
			return err
		}
		return because(mountImage(image, at), map[syscall.Errno]string{
			unix.ENODEV: "this kernel has no EROFS", unix.ENOTBLK: "this kernel, or the file system of " + o.Dir + ", has no mounts of files"})
	})
}

func tryEROFSLoop(ctx context.Context, o Options) (string, error) {
	return "by a loop device", within(o.Dir, func(at string) (err error) {
		image, err := smallImage(ctx, at)
		if err != nil {
			return err
		}
		loop, err := mount.SetupLoop(image, mount.LoopParams{Readonly: true, Autoclear: true})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, loop.Close()) }()
		return because(mountImage(loop.Name(), at), map[syscall.Errno]string{unix.ENODEV: "this kernel has no EROFS"})
	})
}

// smallImage writes an EROFS image of one file.
func smallImage(ctx context.Context, dir string) (name string, err error) {
	f, err := os.Create(filepath.Join(dir, "image"))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	layer, err := smallTar()
	if err != nil {
		return "", err
	}
	_, err = erofs.Convert(ctx, f, layer, erofs.Options{Bottom: true})
	return f.Name(), err
}

func smallTar() (*bytes.Buffer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "word", Mode: 0o644, Size: int64(len(word))}); err != nil {
		return nil, err
	}
	if _, err := w.Write([]byte(word)); err != nil {
		return nil, err
	}
	return &b, w.Close()
}

// mountImage mounts the small image below dir, and reads it.
func mountImage(source, dir string) (err error) {
	at := filepath.Join(dir, "at")
	if err := os.Mkdir(at, 0o700); err != nil {
		return err
	}
	if err := unix.Mount(source, at, "erofs", unix.MS_RDONLY|unix.MS_NODEV|unix.MS_NOSUID, ""); err != nil {
		return &os.PathError{Op: "mount", Path: source, Err: err}
	}
	defer func() { err = errors.Join(err, unmount(at)) }()
	return reads(filepath.Join(at, "word"))
}

// unmount does not wait for what a program that was just started still holds open.
func unmount(at string) error { return unix.Unmount(at, unix.MNT_DETACH) }

// Overlay mounts an overlayfs whose directories lie in dir, and writes through it.
func Overlay(dir string) error {
	return within(dir, func(at string) (err error) {
		for _, name := range []string{"lower", "upper", "work", "at"} {
			if err := os.Mkdir(filepath.Join(at, name), 0o700); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(at, "lower/word"), []byte(word), 0o600); err != nil {
			return err
		}
		over := filepath.Join(at, "at")
		options := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", at)
		if err := unix.Mount("overlay", over, "overlay", 0, options); err != nil {
			return because(&os.PathError{Op: "mount overlay", Path: over, Err: err}, map[syscall.Errno]string{
				unix.ENODEV: "this kernel has no overlayfs", unix.EINVAL: "the file system of " + dir + " cannot hold an overlayfs"})
		}
		defer func() { err = errors.Join(err, unmount(over)) }()
		if err := os.Rename(filepath.Join(over, "word"), filepath.Join(over, "new")); err != nil {
			return err
		}
		return reads(filepath.Join(over, "new"))
	})
}
