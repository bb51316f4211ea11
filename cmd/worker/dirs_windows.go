package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Security descriptors. Who may write into the service's directory decides what it does: that
// are administrators, whatever the directory above would pass on; the account only reads.
// What the service writes has directories of its own.
const (
	ownSDDL     = "O:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FRFX;;;LS)"
	writtenSDDL = "O:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FRFWFXSD;;;LS)"
)

// dirs is the directory of the service.
type dirs string

func serviceDirs() (dirs, error) {
	data, err := windows.KnownFolderPath(windows.FOLDERID_ProgramData, 0)
	return dirs(filepath.Join(data, "lithify")), err
}

func (d dirs) config() string { return filepath.Join(string(d), "lithify-worker.yaml") }
func (d dirs) temp() string   { return filepath.Join(string(d), "temp") }
func (d dirs) log() string    { return filepath.Join(string(d), "logs", "lithify-worker.log") }

// enter has relative paths begin here, as those in a configuration.
func (d dirs) enter() error { return os.Chdir(string(d)) }

// make makes them, and a configuration if there is none. What is there already must be the
// administrators': every user may make a directory in %ProgramData%, or a link, and wait.
func (d dirs) make() error {
	for _, dir := range []struct{ path, sddl string }{{string(d), ownSDDL}, {d.temp(), writtenSDDL}, {filepath.Dir(d.log()), writtenSDDL}} {
		if err := makeDir(dir.path, dir.sddl); err != nil {
			return err
		}
	}
	// From here on nobody else adds anything.
	if err := d.checkRest(); err != nil {
		return err
	}
	if err := d.closeRest(); err != nil {
		return err
	}
	f, err := os.OpenFile(d.config(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "version: 1\ntemp-dir: '%s'\n", d.temp())
	return errors.Join(err, f.Close())
}

// makeDir makes a directory that is the administrators'. One that is there must be so, and
// gets the same rights; what lies in it keeps its own.
func makeDir(path, sddl string) error {
	sd, err := windows.SecurityDescriptorFromString(sddl)
	if err != nil {
		return err
	}
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return err
	}
	sa := windows.SecurityAttributes{SecurityDescriptor: sd}
	sa.Length = uint32(unsafe.Sizeof(sa))
	if err := windows.CreateDirectory(name, &sa); !errors.Is(err, windows.ERROR_ALREADY_EXISTS) {
		return pathError("mkdir", path, err)
	}
	t, err := openThing(path, windows.READ_CONTROL|windows.WRITE_DAC)
	if err != nil {
		return err
	}
	defer t.close()
	if err := t.check(); err != nil {
		return err
	}
	if t.attributes&windows.FILE_ATTRIBUTE_DIRECTORY == 0 {
		return fmt.Errorf("%s is a file, and the service has a directory of this name: remove it", path)
	}
	return pathError("set the rights of", path, windows.SetKernelObjectSecurity(t.handle, windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, sd))
}

// checkRest checks what else lies there, as keys and the configuration.
func (d dirs) checkRest() error {
	return filepath.WalkDir(string(d), func(path string, _ fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path == string(d): // it has been checked
			return nil
		case path == d.temp() || path == filepath.Dir(d.log()): // what the account has written
			return fs.SkipDir
		}
		t, err := openThing(path, windows.READ_CONTROL)
		if err != nil {
			return err
		}
		defer t.close()
		return t.check()
	})
}

// closeRest has it inherit the directory's rights: it may have been there before these.
func (d dirs) closeRest() error {
	sd, err := windows.SecurityDescriptorFromString(ownSDDL)
	if err != nil {
		return err
	}
	rights, _, err := sd.DACL()
	if err != nil {
		return err
	}
	err = windows.SetNamedSecurityInfo(string(d), windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, rights, nil)
	return pathError("set the rights of what is in", string(d), err)
}

// thing is a file or a directory itself, and never what a link leads to.
type thing struct {
	path       string
	handle     windows.Handle
	attributes uint32
	owner      *windows.SID
}

func openThing(path string, access uint32) (_ *thing, err error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	t := &thing{path: path}
	const share = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE
	const itself = windows.FILE_FLAG_BACKUP_SEMANTICS | windows.FILE_FLAG_OPEN_REPARSE_POINT
	if t.handle, err = windows.CreateFile(name, access|windows.FILE_READ_ATTRIBUTES, share, nil, windows.OPEN_EXISTING, itself, 0); err != nil {
		return nil, pathError("open", path, err)
	}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	var info windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(t.handle, &info); err != nil {
		return nil, pathError("look at", path, err)
	}
	t.attributes = info.FileAttributes
	sd, err := windows.GetSecurityInfo(t.handle, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return nil, pathError("ask for the owner of", path, err)
	}
	t.owner, _, err = sd.Owner()
	return t, pathError("ask for the owner of", path, err)
}

func (t *thing) close() { _ = windows.CloseHandle(t.handle) }

// check refuses what others can have placed where the service believes it.
func (t *thing) check() error {
	if t.attributes&windows.FILE_ATTRIBUTE_REPARSE_POINT != 0 {
		return fmt.Errorf("%s is a link, or a junction, and could lead anywhere: remove it (rmdir, or del)", t.path)
	}
	if t.owner == nil || !t.owner.IsWellKnown(windows.WinBuiltinAdministratorsSid) && !t.owner.IsWellKnown(windows.WinLocalSystemSid) {
		return fmt.Errorf(`%s belongs to %s and not to the administrators, and what is there decides what the service does: `+
			`look at it, and remove it, or make it theirs alone: icacls "%[1]s" /setowner *S-1-5-32-544, and icacls "%[1]s" /reset`, t.path, accountName(t.owner))
	}
	return nil
}

func accountName(sid *windows.SID) string {
	if sid == nil {
		return "nobody"
	}
	name, domain, _, err := sid.LookupAccount("")
	if err != nil {
		return sid.String()
	}
	return domain + `\` + name
}

func pathError(op, path string, err error) error {
	if err != nil {
		err = &os.PathError{Op: op, Path: path, Err: err}
	}
	return err
}
