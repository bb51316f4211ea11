package preflight

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"

	"github.com/lithify/lithify/cimfs"
)

// privileged is what to do where something is not permitted.
const privileged = "run it as an administrator"

// here are the probes of Windows.
var here = []probe{
	{
		name: "windows", use: "no build is promised to read the CIMs of another one", try: tryBuild,
	}, {
		name: "blockcim-write", use: "layers become block CIMs", required: []string{"blockcim"},
		remedy: "put cimwriter.dll into System32 or beside the program, or take build 27800 or later", try: tryLibrary,
	}, {
		name: "blockcim-mount", use: "containerd's blockcim snapshotter mounts layers; to make them takes no mounts",
		remedy: "build 27800 or later", try: tryMounts,
	}, {
		name: "offreg", use: "layers that change the registry become block CIMs", required: []string{"blockcim"},
		remedy: "have Windows' offreg.dll in System32", try: tryOffreg,
	}, {
		name: "hard-links", use: "registry hives are kept beside block CIMs", required: []string{"blockcim"},
		remedy: "name a directory on NTFS, by %TMP% or --temp-dir", try: tryLinks,
	}, {
		name: "long-paths", use: "temporary directories may be deep",
		remedy: "name a directory on NTFS, by %TMP% or --temp-dir", try: tryLongPaths,
	}, {
		name: "privileges", use: "containerd imports layers that are no block CIMs; block CIMs need none",
		remedy: privileged, try: tryPrivileges,
	},
}

func tryBuild(context.Context, Options) (string, error) {
	v := windows.RtlGetVersion()
	found := fmt.Sprintf("%d.%d.%d", v.MajorVersion, v.MinorVersion, v.BuildNumber)
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, `SOFTWARE\Microsoft\Windows NT\CurrentVersion`, registry.QUERY_VALUE)
	if err != nil {
		return found, nil
	}
	defer k.Close()
	if update, _, err := k.GetIntegerValue("UBR"); err == nil {
		found += fmt.Sprintf(".%d", update)
	}
	return found, nil
}

func tryLibrary(context.Context, Options) (string, error) {
	w, err := cimfs.Library()
	return w.String(), err
}

func tryMounts(context.Context, Options) (string, error) {
	build := windows.RtlGetVersion().BuildNumber
	if !cimfs.CanMount() {
		return "", fmt.Errorf("build %d mounts none", build)
	}
	return fmt.Sprintf("build %d", build), nil
}

func tryOffreg(context.Context, Options) (string, error) {
	return "offreg.dll", windows.NewLazySystemDLL("offreg.dll").Load()
}

func tryLinks(_ context.Context, o Options) (string, error) {
	return o.Dir, within(o.Dir, func(at string) error {
		name := filepath.Join(at, "word")
		if err := os.WriteFile(name, []byte(word), 0o600); err != nil {
			return err
		}
		link := filepath.Join(at, "link")
		if err := os.Link(name, link); err != nil {
			return err
		}
		return reads(link)
	})
}

func tryLongPaths(_ context.Context, o Options) (string, error) {
	return o.Dir, within(o.Dir, func(at string) error {
		for len(at) <= windows.MAX_PATH {
			at = filepath.Join(at, strings.Repeat("d", 50))
		}
		if err := os.MkdirAll(at, 0o700); err != nil {
			return err
		}
		name := filepath.Join(at, "word")
		if err := os.WriteFile(name, []byte(word), 0o600); err != nil {
			return err
		}
		return reads(name)
	})
}

// tryPrivileges looks for those of backup programs: whether they are on does not matter, as
// who has them switches them on.
func tryPrivileges(context.Context, Options) (string, error) {
	var missing []string
	names := []string{"SeBackupPrivilege", "SeRestorePrivilege"}
	for _, name := range names {
		has, err := holds(name)
		if err != nil {
			return "", err
		}
		if !has {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return "", errors.New("no " + strings.Join(missing, ", "))
	}
	return strings.Join(names, ", "), nil
}

// holds reports whether this process has a privilege.
func holds(privilege string) (bool, error) {
	name, err := windows.UTF16PtrFromString(privilege)
	if err != nil {
		return false, err
	}
	var id windows.LUID
	if err := windows.LookupPrivilegeValue(nil, name, &id); err != nil {
		return false, err
	}
	token, n := windows.GetCurrentProcessToken(), uint32(0)
	if err := windows.GetTokenInformation(token, windows.TokenPrivileges, nil, 0, &n); !errors.Is(err, windows.ERROR_INSUFFICIENT_BUFFER) {
		return false, err
	}
	raw := make([]byte, n)
	if err := windows.GetTokenInformation(token, windows.TokenPrivileges, &raw[0], n, &n); err != nil {
		return false, err
	}
	for _, p := range (*windows.Tokenprivileges)(unsafe.Pointer(&raw[0])).AllPrivileges() {
		if p.Luid == id {
			return true, nil
		}
	}
	return false, nil
}
