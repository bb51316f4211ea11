package convert

import (
	"os"

	"golang.org/x/sys/windows"
)

// holdMark makes a file that nobody else opens or removes, and that is gone with this process.
func holdMark(path string) (*os.File, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	h, err := windows.CreateFile(name, windows.GENERIC_WRITE|windows.DELETE, 0, nil, windows.CREATE_NEW, windows.FILE_FLAG_DELETE_ON_CLOSE, 0)
	if err != nil {
		return nil, &os.PathError{Op: "create", Path: path, Err: err}
	}
	return os.NewFile(uintptr(h), path), nil
}

func releaseMark(mark *os.File) error { return mark.Close() }

// removeMark removes one that nobody holds: after the end of all of Windows it may be there still.
func removeMark(path string) error { return os.Remove(path) }
