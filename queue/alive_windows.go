package queue

import "os"

// alive reports whether a process of this number exists.
func alive(pid int) bool {
	p, err := os.FindProcess(pid) // opens the process, so it fails for one that ended
	if err != nil {
		return false
	}
	p.Release()
	return true
}
