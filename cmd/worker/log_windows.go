package main

import (
	"os"

	"golang.org/x/sys/windows"
)

// maxLog is how large a log becomes before another one begins.
const maxLog = 64 << 20

// logFile is the log of a service, and the stderr of its process: what Go says of a panic is
// in it, too. The one before it has .old behind its name.
type logFile struct {
	path string
	max  int64
	f    *os.File
	size int64
}

func openLog(path string) (*logFile, error) {
	l := &logFile{path: path, max: maxLog}
	return l, l.open()
}

// open goes on where the file ends.
func (l *logFile) open() (err error) {
	if l.f, err = os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	st, err := l.f.Stat()
	if err != nil {
		return err
	}
	l.size, os.Stderr = st.Size(), l.f
	return windows.SetStdHandle(windows.STD_ERROR_HANDLE, windows.Handle(l.f.Fd()))
}

// Write is called by one goroutine at a time, as slog's handlers do it.
func (l *logFile) Write(b []byte) (int, error) {
	if l.size+int64(len(b)) > l.max {
		if err := l.f.Close(); err != nil {
			return 0, err
		}
		_ = os.Rename(l.path, l.path+".old") // while somebody reads it, it grows
		if err := l.open(); err != nil {
			return 0, err
		}
	}
	n, err := l.f.Write(b)
	l.size += int64(n)
	return n, err
}

func (l *logFile) Close() error { return l.f.Close() }
