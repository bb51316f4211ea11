package convert

import (
	"crypto/rand"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// nameless opens a file that Windows removes with its last handle. Until then it has a name.
func nameless(dir string) (*Scratch, error) {
	path := filepath.Join(dir, "lithify-"+rand.Text())
	f, err := createOwn(path, windows.GENERIC_READ|windows.GENERIC_WRITE|windows.DELETE)
	if err != nil {
		return nil, err
	}
	return &Scratch{File: f}, nil
}

// createOwn makes a file that nobody else opens or removes, and that is gone with this process.
func createOwn(path string, access uint32) (*os.File, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	h, err := windows.CreateFile(name, access, 0, nil, windows.CREATE_NEW, windows.FILE_FLAG_DELETE_ON_CLOSE, 0)
	if err != nil {
		return nil, &os.PathError{Op: "create", Path: path, Err: err}
	}
	return os.NewFile(uintptr(h), path), nil
}
