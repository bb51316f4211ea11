package restore

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
)

// file is one to be made in a container.
type file struct {
	name     string // relative to its root
	mode     os.FileMode
	uid, gid int
	content  []byte
}

// owner is who the process is: whose its files in /proc are does not tell, they are root's
// where no core may be dumped of it.
func (p *held) owner() (uid, gid int, err error) {
	raw, err := os.ReadFile(p.path("status"))
	if err != nil {
		return 0, 0, fmt.Errorf("user of the first process: %w", err)
	}
	for line := range strings.Lines(string(raw)) {
		var to *int
		switch f := strings.Fields(line); {
		case len(f) == 5 && f[0] == "Uid:":
			to = &uid
		case len(f) == 5 && f[0] == "Gid:":
			to = &gid
		default:
			continue
		}
		if *to, err = strconv.Atoi(strings.Fields(line)[2]); err != nil { // the effective one
			return 0, 0, fmt.Errorf("user of the first process: %w", err)
		}
	}
	return uid, gid, nil
}

// write makes files in the root of the process anew. That is the container's, who may
// have anything there: no link is followed that leads out of it, and what has the name is
// replaced and not opened, as that could be a pipe, or a device of the machine's.
func (p *held) write(files []file) (err error) {
	root, err := os.OpenRoot(p.path("root"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	for _, f := range files {
		if err := f.in(root); err != nil {
			return err
		}
	}
	return nil
}

func (f file) in(root *os.Root) error {
	if err := root.MkdirAll(path.Dir(f.name), 0o755); err != nil {
		return err
	}
	part := f.name + "." + rand.Text()
	w, err := root.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = w.Write(f.content)
	if err = errors.Join(err, w.Chown(f.uid, f.gid), w.Chmod(f.mode), w.Close()); err == nil {
		err = root.Rename(part, f.name)
	}
	if err != nil {
		return errors.Join(err, root.Remove(part))
	}
	return nil
}
