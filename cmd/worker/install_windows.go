package main

import (
	"errors"
	"fmt"
	"os"
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

// installService makes a service of these flags, which are tried as the service will have them.
func installService(flags []string) error {
	m, err := mgr.Connect()
	if err != nil {
		return err
	}
	defer m.Disconnect()
	if s, err := m.OpenService(serviceName); err == nil {
		return errors.Join(windows.ERROR_SERVICE_EXISTS, s.Close())
	}
	fs, _ := new(options).flags()
	flags, err = absolute(fs, flags)
	if err == nil {
		err = fs.Parse(flags) // which ends here, if there is --help
	}
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
	if err := d.enter(); err != nil {
		return err
	}
	o, err := parse(flags)
	if err != nil {
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
	s, err := m.CreateService(serviceName, self, mgr.Config{
		StartType: mgr.StartAutomatic, ServiceStartName: account,
		DisplayName: "lithify worker", Description: "Runs the jobs of a lithify pool.",
	}, append([]string{"service", "run"}, flags...)...)
	if err != nil {
		return err
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
