// Package criu tells what CRIU, which containerd's runtime runs, has to say.
package criu

import (
	"io"
	"os"
)

// maxTail is how much of a log an error shows, in bytes.
const maxTail = 4 << 10

// Log is the end of a log of CRIU's, to be added to an error; "" if there is none.
func Log(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > maxTail {
		if _, err := f.Seek(-maxTail, io.SeekEnd); err != nil {
			return ""
		}
	}
	tail, err := io.ReadAll(io.LimitReader(f, maxTail))
	if err != nil || len(tail) == 0 {
		return ""
	}
	return "; the end of CRIU's log:\n" + string(tail)
}
