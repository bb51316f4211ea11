package main

import "golang.org/x/sys/unix"

// mountEROFS mounts an image file without a loop device (Linux 6.12 and later).
func mountEROFS(image, dir string) error {
	return unix.Mount(image, dir, "erofs", unix.MS_RDONLY, "")
}

func unmount(dir string) { _ = unix.Unmount(dir, unix.MNT_DETACH) }
