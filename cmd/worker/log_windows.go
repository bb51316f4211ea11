package main

import (
	"errors"
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
func (l *logFile) open() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.f, l.size, os.Stderr = f, st.Size(), f
	return windows.SetStdHandle(windows.STD_ERROR_HANDLE, windows.Handle(l.f.Fd()))
}

// Write is called by one goroutine at a time, as slog's handlers do it.
func (l *logFile) Write(b []byte) (int, error) {
	if l.f == nil || l.size+int64(len(b)) > l.max {
		if err := l.rotate(); err != nil {
			return 0, err
		}
	}
	n, err := l.f.Write(b)
	l.size += int64(n)
	return n, err
}

// rotate begins a log anew. One that cannot be opened just now is with the next line.
func (l *logFile) rotate() error {
	if err := l.Close(); err != nil {
		return err
	}
	_ = os.Rename(l.path, l.path+".old") // while somebody reads it, it grows
	return l.open()
}

func (l *logFile) Close() error {
	if l.f == nil {
		return nil
	}
	f := l.f
	l.f = nil
	return f.Close()
}
