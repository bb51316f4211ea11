package cimfs

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/Microsoft/hcsshim/osversion"
	hcscim "github.com/Microsoft/hcsshim/pkg/cimfs"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/windows"
)

// Library is what block CIMs are written with here. Where they cannot be it is an
// errdefs.ErrFailedPrecondition that says what is missing.
func Library() (Writer, error) {
	w := Writer{Build: uint32(osversion.Build())}
	// hcsshim takes the first that is there, from these places.
	for _, name := range []string{"cimwriter.dll", "cimfs.dll"} {
		file, err := loaded(name)
		if errors.Is(err, windows.ERROR_MOD_NOT_FOUND) {
			continue
		}
		if err != nil {
			return w, fmt.Errorf("%s: %w", name, err)
		}
		w.Library = name
		if w.Version, err = fileVersion(file); err != nil {
			return w, fmt.Errorf("%s: %w", file, err)
		}
		break
	}
	if !hcscim.IsVerifiedCimWriteSupported() || !hcscim.IsMergedCimWriteSupported() {
		return w, fmt.Errorf("this Windows, build %d, writes no block CIMs: put cimwriter.dll into System32 or beside the program, or take build 27800 or later: %w", w.Build, errdefs.ErrFailedPrecondition)
	}
	return w, nil
}

// CanMount reports whether this Windows mounts block CIMs, which none of 2025 does.
func CanMount() bool {
	return hcscim.IsVerifiedCimMountSupported() && hcscim.IsMergedCimMountSupported()
}

// loaded is where a library is found by who looks into the system's directory and the
// program's.
func loaded(name string) (file string, err error) {
	h, err := windows.LoadLibraryEx(name, 0, windows.LOAD_LIBRARY_SEARCH_SYSTEM32|windows.LOAD_LIBRARY_SEARCH_APPLICATION_DIR)
	if err != nil {
		return "", err
	}
	defer windows.FreeLibrary(h)
	buf := make([]uint16, windows.MAX_LONG_PATH)
	n, err := windows.GetModuleFileName(h, &buf[0], uint32(len(buf)))
	if err != nil {
		return "", err
	}
	return windows.UTF16ToString(buf[:n]), nil
}

// fileVersion is a file's, of its resources; "unknown" if it has none.
func fileVersion(file string) (string, error) {
	n, err := windows.GetFileVersionInfoSize(file, nil)
	if errors.Is(err, windows.ERROR_RESOURCE_TYPE_NOT_FOUND) || errors.Is(err, windows.ERROR_RESOURCE_DATA_NOT_FOUND) || n == 0 {
		return "unknown", nil
	}
	if err != nil {
		return "", err
	}
	raw := make([]byte, n)
	if err := windows.GetFileVersionInfo(file, 0, n, unsafe.Pointer(&raw[0])); err != nil {
		return "", err
	}
	var (
		info *windows.VS_FIXEDFILEINFO
		size uint32
	)
	if err := windows.VerQueryValue(unsafe.Pointer(&raw[0]), `\`, unsafe.Pointer(&info), &size); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d.%d.%d.%d", info.FileVersionMS>>16, info.FileVersionMS&0xffff, info.FileVersionLS>>16, info.FileVersionLS&0xffff), nil
}
