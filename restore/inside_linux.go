package restore

import (
	"errors"
	"fmt"
	"os"
	"path"
)

// writeIn writes a file in the root of process pid. That is the container's, who may have
// links there: none is followed that leads out of it.
func writeIn(pid uint32, name, content string) (err error) {
	root, err := os.OpenRoot(fmt.Sprintf("/proc/%d/root", pid))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	return root.WriteFile(name, []byte(content), 0o644)
}
