package restore

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path"
)

// writeIn makes a file in the root of process pid anew. That is the container's, who may
// have anything there: no link is followed that leads out of it, and what has the name is
// replaced and not opened, as that could be a pipe, or a device of the machine's.
func writeIn(pid uint32, name, content string) (err error) {
	root, err := os.OpenRoot(fmt.Sprintf("/proc/%d/root", pid))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	part := name + "." + rand.Text()
	f, err := root.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if err = errors.Join(err, f.Close()); err == nil {
		err = root.Rename(part, name)
	}
	if err != nil {
		return errors.Join(err, root.Remove(part))
	}
	return nil
}
