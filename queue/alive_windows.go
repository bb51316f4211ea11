package queue

import "golang.org/x/sys/windows"

// alive reports whether a process of this number runs. One that ended can be opened for as
// long as anybody holds it open: its parent, mostly.
func alive(pid int) bool {
	p, err := windows.OpenProcess(windows.SYNCHRONIZE, false, uint32(pid))
	if err != nil {
		return err == windows.ERROR_ACCESS_DENIED // another user's
	}
	defer windows.CloseHandle(p)
	event, err := windows.WaitForSingleObject(p, 0)
	return err == nil && event == uint32(windows.WAIT_TIMEOUT)
}
