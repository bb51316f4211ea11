package preflight

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"unsafe"

	"github.com/lithify/lithify/erofs"
	"golang.org/x/sys/unix"
)

// tryVerity seals a file.
func tryVerity(_ context.Context, o Options) (string, error) {
	return o.Dir, within(o.Dir, func(at string) error {
		f, err := wordFile(at)
		if err != nil {
			return err
		}
		defer f.Close()
		arg := unix.FsverityEnableArg{Version: 1, Hash_algorithm: unix.FS_VERITY_HASH_ALG_SHA256, Block_size: 4096}
		err = ioctl(f, unix.FS_IOC_ENABLE_VERITY, unsafe.Pointer(&arg))
		return because(err, map[syscall.Errno]string{
			unix.ENOTTY: "this kernel or file system has no fs-verity", unix.EOPNOTSUPP: "this file system has fs-verity off"})
	})
}

// wordFile makes a file that is open for reading alone.
func wordFile(dir string) (*os.File, error) {
	name := filepath.Join(dir, "word")
	if err := os.WriteFile(name, []byte(word), 0o600); err != nil {
		return nil, err
	}
	return os.Open(name)
}

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(arg)); errno != 0 {
		return &os.PathError{Op: "ioctl", Path: f.Name(), Err: errno}
	}
	return nil
}

// immutableFlag is FS_IMMUTABLE_FL of linux/fs.h.
const immutableFlag = 0x10

// tryImmutable makes a file that root cannot remove, and takes that back.
func tryImmutable(_ context.Context, o Options) (string, error) {
	return o.Dir, within(o.Dir, func(at string) error {
		f, err := wordFile(at)
		if err != nil {
			return err
		}
		defer f.Close()
		flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		if err != nil {
			return because(err, map[syscall.Errno]string{unix.ENOTTY: "this file system has no such flag", unix.EOPNOTSUPP: "this file system has no such flag"})
		}
		if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags|immutableFlag); err != nil {
			return because(err, map[syscall.Errno]string{unix.EOPNOTSUPP: "this file system has no such flag"})
		}
		refused := os.Remove(f.Name())
		if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags); err != nil {
			return err
		}
		if refused == nil {
			return errors.New("an immutable file could be removed")
		}
		return nil
	})
}

// tryMkfs has mkfs.erofs make an image of a tar, with the flags of containerd's differ:
// versions before 1.8 have not all of them, or write what the kernel misreads.
func tryMkfs(ctx context.Context, o Options) (string, error) {
	version, err := versionOf(ctx, "mkfs.erofs")
	if err != nil {
		return "", err
	}
	if before(version, 1, 8) {
		return "", fmt.Errorf("version %s is too old", version)
	}
	return version, within(o.Dir, func(at string) error {
		layer, err := smallTar()
		if err != nil {
			return err
		}
		image := filepath.Join(at, "image")
		cmd := exec.CommandContext(ctx, "mkfs.erofs", "--tar=f", "--aufs", "--quiet", "-Enoinline_data", image)
		cmd.Stdin = layer
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("mkfs.erofs --tar=f: %w: %s", err, bytes.TrimSpace(out))
		}
		f, err := os.Open(image)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = erofs.Open(f)
		return err
	})
}

// before reports whether a version is older; one that cannot be read is not known to be.
func before(version string, major, minor int) bool {
	var a, b int
	n, _ := fmt.Sscanf(version, "%d.%d", &a, &b)
	return n == 2 && (a < major || a == major && b < minor)
}

// What linux/dm-ioctl.h says of DM_LIST_VERSIONS: a header, and behind it the targets,
// each with the distance to the next, three numbers and a name.
const (
	dmListVersions = 0xc138fd0d
	dmHeader       = 312
	dmBuffer       = 16 << 10
	dmDataSize     = 12 // offsets in the header
	dmDataStart    = 16
	dmTargetName   = 16 // in a target
)

// tryDMVerity asks the device mapper which targets it has. A module that is not loaded
// is not among them.
func tryDMVerity(context.Context, Options) (string, error) {
	f, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	buf := make([]byte, dmBuffer)
	ne := binary.NativeEndian
	ne.PutUint32(buf, 4) // the version of the interface
	ne.PutUint32(buf[dmDataSize:], dmBuffer)
	ne.PutUint32(buf[dmDataStart:], dmHeader)
	if err := ioctl(f, dmListVersions, unsafe.Pointer(&buf[0])); err != nil {
		return "", err
	}
	for list := buf[min(ne.Uint32(buf[dmDataStart:]), dmBuffer):]; len(list) > dmTargetName; {
		name, _, _ := bytes.Cut(list[dmTargetName:], []byte{0})
		if string(name) == "verity" {
			return fmt.Sprintf("version %d.%d.%d", ne.Uint32(list[4:]), ne.Uint32(list[8:]), ne.Uint32(list[12:])), nil
		}
		next := ne.Uint32(list)
		if next == 0 || int(next) > len(list) {
			break
		}
		list = list[next:]
	}
	return "", errors.New("the device mapper has no target verity")
}
