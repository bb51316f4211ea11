package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc/eventlog"
	"golang.org/x/sys/windows/svc/mgr"
)

const (
	// account has few rights: to write a block CIM takes none.
	account = `NT AUTHORITY\LocalService`
	// restartAfter is as of the unit for systemd.
	restartAfter = 5 * time.Second
	// afterGrace is how much longer than --grace Windows waits when it shuts down.
	afterGrace = 10 * time.Second
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

// make makes them, and a configuration if there is none.
func (d dirs) make() error {
	for _, dir := range []struct{ path, sddl string }{{string(d), ownSDDL}, {d.temp(), writtenSDDL}, {filepath.Dir(d.log()), writtenSDDL}} {
		if err := makeDir(dir.path, dir.sddl); err != nil {
			return fmt.Errorf("%s: %w", dir.path, err)
		}
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
// gets the same rights.
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
		return err
	}
	there, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return err
	}
	owner, _, err := there.Owner()
	if err != nil {
		return err
	}
	if !owner.IsWellKnown(windows.WinBuiltinAdministratorsSid) && !owner.IsWellKnown(windows.WinLocalSystemSid) {
		return fmt.Errorf("it belongs to %s, and what lies in it decides what the service does: look at it, and remove it", owner)
	}
	rights, _, err := sd.DACL()
	if err != nil {
		return err
	}
	return windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, rights, nil)
}

// installService makes a service of these flags, which are tried.
func installService(flags []string) error {
	o, err := parse(flags)
	if err != nil {
		return err
	}
	d, err := serviceDirs()
	if err != nil {
		return err
	}
	if err := d.make(); err != nil {
		return err
	}
	if o.config == "" {
		flags = append([]string{"--config", d.config()}, flags...)
		if o, err = parse(flags); err != nil {
			return err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	m, err := mgr.Connect()
	if err != nil {
		return err
	}
	defer m.Disconnect()
	s, err := m.CreateService(serviceName, self, mgr.Config{
		StartType: mgr.StartAutomatic, ServiceStartName: account,
		DisplayName: "lithify worker", Description: "Runs the jobs of a lithify pool.",
	}, append([]string{"service", "run"}, flags...)...)
	if err != nil {
		return fmt.Errorf("service %s: %w", serviceName, err)
	}
	defer s.Close()
	err = errors.Join(
		named("restarts", s.SetRecoveryActions([]mgr.RecoveryAction{{Type: mgr.ServiceRestart, Delay: restartAfter}}, windows.INFINITE)),
		named("restarts after errors", s.SetRecoveryActionsOnNonCrashFailures(true)), // without, one that says that it failed stays so
		named("time to drain at a shutdown", setPreshutdown(s, o.worker.Grace+afterGrace)),
		named("its source of events", eventlog.InstallAsEventCreate(serviceName, eventlog.Error)),
	)
	if err != nil {
		fmt.Fprintf(os.Stderr, "lithify-worker: the service is installed, but not all of it:\n%v\n", err)
	}
	fmt.Printf("installed, with the account %s; its configuration is %s\n", account, o.config)
	return nil
}

func named(what string, err error) error {
	if err != nil {
		err = fmt.Errorf("%s: %w", what, err)
	}
	return err
}

// setPreshutdown says how long Windows waits for the service before it shuts down.
func setPreshutdown(s *mgr.Service, d time.Duration) error {
	timeout := uint32(d.Milliseconds()) // SERVICE_PRESHUTDOWN_INFO
	return windows.ChangeServiceConfig2(s.Handle, windows.SERVICE_CONFIG_PRESHUTDOWN_INFO, (*byte)(unsafe.Pointer(&timeout)))
}
