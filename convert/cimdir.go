package convert

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// cimDir is a directory of block CIMs under way. Beside it lies a mark, which is held as long as
// the process lives: on Windows no file is gone with its process, and by its number alone a process
// is neither known to live, where it is another account's, nor to be the same one.
type cimDir struct {
	path string
	mark *os.File
}

const (
	cimDirName = "lithify-blockcim-"
	markName   = ".inuse"
)

// newCIMDir makes one in temp, and removes there what processes have left that were killed.
func newCIMDir(temp string) (*cimDir, error) {
	sweepCIMs(temp)
	d := &cimDir{path: filepath.Join(temp, cimDirName+rand.Text())}
	var err error
	if d.mark, err = holdMark(d.path + markName); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTemp, err)
	}
	if err := os.Mkdir(d.path, 0o700); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrTemp, err), d.remove())
	}
	return d, nil
}

// remove removes it and what is in it.
func (d *cimDir) remove() error {
	return errors.Join(os.RemoveAll(d.path), releaseMark(d.mark))
}

// sweepCIMs removes what nobody holds. What cannot be removed is tried again for the next image.
func sweepCIMs(temp string) {
	found, err := filepath.Glob(filepath.Join(temp, cimDirName+"*"))
	if err != nil {
		return
	}
	for _, path := range found {
		dir := strings.TrimSuffix(path, markName)
		if err := removeMark(dir + markName); err == nil || errors.Is(err, fs.ErrNotExist) {
			os.RemoveAll(dir)
		}
	}
}
