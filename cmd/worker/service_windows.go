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
func service(args []string) (err error) {
	verb := ""
	defer func() { err = advised(err) }()
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
		return err
	}
	defer s.Close()
	return do(s)
}

// advice is what to do about errors of Windows that only say what is wrong.
var advice = map[error]string{
	windows.ERROR_ACCESS_DENIED:                     "only administrators may do that: run it as one",
	windows.ERROR_SERVICE_EXISTS:                    "it is installed: change its configuration, or have service uninstall remove it first to give it other flags",
	windows.ERROR_SERVICE_DOES_NOT_EXIST:            "it is not installed: service install does that",
	windows.ERROR_SERVICE_MARKED_FOR_DELETE:         "it is being removed, as soon as no program has it open any more: close the window of services, and try again",
	windows.ERROR_SERVICE_ALREADY_RUNNING:           "it is running: to have it read its configuration anew, service stop it first",
	windows.ERROR_SERVICE_CANNOT_ACCEPT_CTRL:        "it is just starting or stopping: try again when service status says that it has",
	windows.ERROR_SERVICE_REQUEST_TIMEOUT:           "it has not come up in time, which is 30 s as a rule: try again when the machine has less to do",
	windows.ERROR_SERVICE_DISABLED:                  "it is disabled: sc.exe config " + serviceName + " start= auto",
	windows.ERROR_FAILED_SERVICE_CONTROLLER_CONNECT: "service run is how Windows starts it: service start has it do so",
}

// advised says what to do about err.
func advised(err error) error {
	for is, text := range advice {
		if errors.Is(err, is) {
			return fmt.Errorf("service %s: %s: %w", serviceName, text, err)
		}
	}
	return err
}

// runService ends when the service has.
func runService(flags []string) error { return svc.Run(serviceName, handler(flags)) }

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
	status <- svc.Status{State: svc.StartPending, WaitHint: uint32(silent.Milliseconds())}
	log, o, err := flags.open()
	if err != nil {
		report(err)
		return true, 1
	}
	defer log.Close()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- o.serve(ctx, log) }()
	now := svc.Status{State: svc.Running, Accepts: accepted}
	status <- now
	tick := time.NewTicker(stillThere)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil {
				fmt.Fprintln(log, serviceName+":", err)
				report(err)
				return true, 1
			}
			return false, 0
		case r := <-requests:
			switch r.Cmd {
			case svc.Stop, svc.Shutdown, svc.PreShutdown: // every user may send others
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

// open reads the flags. A service has no stderr: in its place is a file.
func (flags handler) open() (log *logFile, o *options, err error) {
	dirs, err := serviceDirs()
	if err != nil {
		return nil, nil, err
	}
	if err := dirs.enter(); err != nil {
		return nil, nil, err
	}
	if log, err = openLog(dirs.log()); err != nil {
		return nil, nil, err
	}
	if o, err = parse(flags); err != nil {
		fmt.Fprintln(log, serviceName+":", err)
		return nil, nil, errors.Join(err, log.Close())
	}
	return log, o, nil
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
	now, err := s.Control(svc.Stop)
	switch {
	case errors.Is(err, windows.ERROR_SERVICE_NOT_ACTIVE):
		return nil
	case errors.Is(err, windows.ERROR_SERVICE_CANNOT_ACCEPT_CTRL) && now.State == svc.StopPending: // it stops already
	case err != nil:
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
	state := stateNames[now.State]
	if now.State == svc.Stopped && now.ServiceSpecificExitCode != 0 {
		state += fmt.Sprintf(" with code %d, of which the log has more", now.ServiceSpecificExitCode)
	}
	fmt.Printf("%s\t%s\nlog\t%s\n", serviceName, state, dirs.log())
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
