package convert

import (
	"os"

	"golang.org/x/sys/windows"
)

// holdMark makes a file that nobody else opens or removes, and that is gone with this process.
func holdMark(path string) (*os.File, error) {
	return createOwn(path, windows.GENERIC_WRITE|windows.DELETE)
}

func releaseMark(mark *os.File) error { return mark.Close() }

// removeMark removes one that nobody holds: after the end of all of Windows it may be there still.
func removeMark(path string) error { return os.Remove(path) }
