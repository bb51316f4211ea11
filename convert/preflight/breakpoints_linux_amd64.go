package preflight

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// debugRegister is where the processor's debug register i lies for PTRACE_POKEUSER: struct
// user of Linux's arch/x86/include/asm/user_64.h.
func debugRegister(i uintptr) uintptr { return 848 + 8*i }

// Breakpoints says whether a process here stops at a breakpoint of the processor's, as CRIU has
// those that it dumps and restores do; where it does not, CRIU waits for ever. Some virtual
// machines take debug registers and do nothing with them. CRIU can do without: its variable
// CRIU_FAULT=130.
func Breakpoints() error {
	runtime.LockOSThread() // a thread traces
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe")
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start a process to trace: %w", err)
	}
	pid := cmd.Process.Pid
	defer func() { // it has not run a single instruction, or only those before its first call
		cmd.Process.Kill()
		cmd.Wait()
	}()
	stop, err := nextStop(pid)
	if err != nil {
		return err
	}
	if stop != unix.SIGTRAP {
		return fmt.Errorf("a traced process begins with %v", stop)
	}
	if err := breakHere(pid); err != nil {
		return err
	}
	if err := unix.PtraceSyscall(pid, 0); err != nil {
		return fmt.Errorf("have a traced process go on: %w", err)
	}
	if stop, err = nextStop(pid); err != nil {
		return err
	}
	if stop != unix.SIGTRAP { // but with the bit of a call
		return errors.New("processes do not stop at the processor's breakpoints")
	}
	return nil
}

// nextStop waits until a traced process stands still, and gives the signal that it stands at.
func nextStop(pid int) (unix.Signal, error) {
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil {
		return 0, fmt.Errorf("wait for a traced process: %w", err)
	}
	if !status.Stopped() {
		return 0, errors.New("a traced process has ended")
	}
	return status.StopSignal(), nil
}

// breakHere sets a breakpoint at the next instruction, and has calls be told from it.
func breakHere(pid int) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(pid, &regs); err != nil {
		return fmt.Errorf("read registers of a traced process: %w", err)
	}
	if err := unix.PtraceSetOptions(pid, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_EXITKILL); err != nil {
		return fmt.Errorf("trace a process: %w", err)
	}
	const local0 = 1 // of register 7: the address in register 0 counts, for instructions
	for _, r := range [][2]uintptr{{0, uintptr(regs.Rip)}, {7, local0}} {
		if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_POKEUSR, uintptr(pid), debugRegister(r[0]), r[1], 0, 0); errno != 0 {
			return fmt.Errorf("set a breakpoint: %w", errno)
		}
	}
	return nil
}
