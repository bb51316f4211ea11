package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/eventlog"
	"golang.org/x/sys/windows/svc/mgr"
)

const (
	// serviceName is also that of its source of events.
	serviceName  = "lithify-worker"
	serviceUsage = `, and of
  lithify-worker service install [FLAGS]   which Windows then starts it with
  lithify-worker service start|stop|status|uninstall`
)

// service does lithify-worker service VERB. A service is run by the same program, by the verb
// run, which Windows alone uses.
func service(args []string) error {
	verb := ""
	if len(args) > 0 {
		verb, args = args[0], args[1:]
	}
	switch verb {
	case "run":
		return runService(args)
	case "install":
		return installService(args)
	}
	do, ok := map[string]func(*mgr.Service) error{"start": startService, "stop": stopService, "status": printService, "uninstall": uninstallService}[verb]
	if !ok || len(args) > 0 {
		return errors.New("want service install [FLAGS], start, stop, status or uninstall")
	}
	m, err := mgr.Connect()
	if err != nil {
		return err
	}
	defer m.Disconnect()
	s, err := m.OpenService(serviceName)
	if err != nil {
		return fmt.Errorf("service %s: %w", serviceName, err)
	}
	defer s.Close()
	return do(s)
}

// runService ends when the service has.
func runService(flags []string) error {
	err := svc.Run(serviceName, handler(flags))
	if errors.Is(err, windows.ERROR_FAILED_SERVICE_CONTROLLER_CONNECT) {
		return errors.New("service run is how Windows starts the service; service start has it do so")
	}
	return err
}

// handler has the flags of a worker that is run as a service.
type handler []string

// accepted are the controls that have the service stop. PreShutdown comes before those that
// shutting down has little time for.
const accepted = svc.AcceptStop | svc.AcceptShutdown | svc.AcceptPreShutdown

// stillThere is how often a service that drains says so, and silent how long Windows is to
// wait for the next time.
const (
	stillThere = time.Second
	silent     = 30 * time.Second
)

// Execute is called once, by svc.Run.
func (flags handler) Execute(_ []string, requests <-chan svc.ChangeRequest, status chan<- svc.Status) (specific bool, code uint32) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- flags.serve(ctx) }()
	now := svc.Status{State: svc.Running, Accepts: accepted}
	status <- now
	tick := time.NewTicker(stillThere)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil {
				report(err)
				return true, 1
			}
			return false, 0
		case r := <-requests:
			if r.Cmd != svc.Interrogate {
				stop()
				now = svc.Status{State: svc.StopPending, WaitHint: uint32(silent.Milliseconds())}
			}
			status <- now
		case <-tick.C:
			if now.State == svc.StopPending {
				now.CheckPoint++
				status <- now
			}
		}
	}
}

// serve works until ctx is done. A service has no stderr: in its place is a file.
func (flags handler) serve(ctx context.Context) error {
	dirs, err := serviceDirs()
	if err != nil {
		return err
	}
	log, err := openLog(dirs.log())
	if err != nil {
		return err
	}
	defer log.Close()
	o, err := parse(flags)
	if err == nil {
		err = o.serve(ctx, log)
	}
	if err != nil {
		fmt.Fprintln(log, serviceName+":", err)
	}
	return err
}

// report says why a service has ended where administrators look first.
func report(why error) {
	l, err := eventlog.Open(serviceName)
	if err != nil {
		return
	}
	defer l.Close()
	_ = l.Error(1, why.Error()) // the log file has it, too
}

func startService(s *mgr.Service) error {
	if err := s.Start(); err != nil {
		return err
	}
	return await(s, svc.Running)
}

// stopService waits until running jobs have ended, or have been handed back after --grace.
func stopService(s *mgr.Service) error {
	if _, err := s.Control(svc.Stop); err != nil {
		if errors.Is(err, windows.ERROR_SERVICE_NOT_ACTIVE) {
			return nil
		}
		return err
	}
	return await(s, svc.Stopped)
}

// await waits for a state, as long as the service says that it is there.
func await(s *mgr.Service, want svc.State) error {
	var last windows.SERVICE_STATUS_PROCESS
	for since := time.Now(); time.Since(since) < silent; time.Sleep(stillThere / 10) {
		now, err := query(s)
		if err != nil || svc.State(now.CurrentState) == want {
			return err
		}
		if now.CurrentState == windows.SERVICE_STOPPED {
			return fmt.Errorf("the service has ended, with code %d: its log and Windows' events say why", now.ServiceSpecificExitCode)
		}
		if now != last {
			last, since = now, time.Now()
		}
	}
	return fmt.Errorf("the service is %s and has said nothing for %v", stateNames[svc.State(last.CurrentState)], silent)
}

// query is Query with the checkpoint, which mgr leaves out.
func query(s *mgr.Service) (now windows.SERVICE_STATUS_PROCESS, err error) {
	size := uint32(unsafe.Sizeof(now))
	err = windows.QueryServiceStatusEx(s.Handle, windows.SC_STATUS_PROCESS_INFO, (*byte)(unsafe.Pointer(&now)), size, &size)
	return now, err
}

var stateNames = map[svc.State]string{
	svc.Stopped: "stopped", svc.StartPending: "starting", svc.StopPending: "stopping", svc.Running: "running",
	svc.ContinuePending: "resuming", svc.PausePending: "pausing", svc.Paused: "paused",
}

func printService(s *mgr.Service) error {
	now, err := s.Query()
	if err != nil {
		return err
	}
	dirs, err := serviceDirs()
	if err != nil {
		return err
	}
	fmt.Printf("%s\t%s\nlog\t%s\n", serviceName, stateNames[now.State], dirs.log())
	return nil
}

// uninstallService leaves the service's directory, where its configuration is.
func uninstallService(s *mgr.Service) error {
	if err := stopService(s); err != nil {
		return err
	}
	if err := s.Delete(); err != nil {
		return err
	}
	if err := eventlog.Remove(serviceName); err != nil {
		fmt.Fprintln(os.Stderr, "source of events:", err)
	}
	return nil
}
