package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/opencontainers/go-digest"
)

// lockPoll is how often a lock is tried that another process has.
const lockPoll = 50 * time.Millisecond

// cache holds the checkpoints of this machine, unpacked and validated. Each is a
// directory that nobody writes to and that all share who restore from it.
type cache struct{ dir string }

// get gives a checkpoint's directory, made by fill if it is not there yet: by one process
// at a time, and by none if another one has. It stays until release is called.
func (c cache) get(ctx context.Context, dgst digest.Digest, fill func(dir string) error) (dir string, release func() error, err error) {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return "", nil, err
	}
	dir = filepath.Join(c.dir, dgst.Encoded())
	lock := flock.New(dir + ".lock")
	for {
		if _, err := lock.TryRLockContext(ctx, lockPoll); err != nil {
			return "", nil, fmt.Errorf("lock of %s: %w", dir, err)
		}
		if _, err := os.Stat(dir); err == nil {
			return dir, lock.Close, nil
		}
		err := lock.Unlock()
		if err == nil {
			_, err = lock.TryLockContext(ctx, lockPoll)
		}
		if err != nil {
			return "", nil, fmt.Errorf("lock of %s: %w", dir, err)
		}
		if err := fillOnce(dir, fill); err != nil {
			return "", nil, errors.Join(err, lock.Close())
		}
		if err := lock.Unlock(); err != nil {
			return "", nil, err
		}
	}
}

// whole lists the checkpoints that are there.
func (c cache) whole() (dirs []string, err error) {
	entries, err := os.ReadDir(c.dir)
	for _, e := range entries {
		if e.IsDir() && filepath.Ext(e.Name()) == "" {
			dirs = append(dirs, filepath.Join(c.dir, e.Name()))
		}
	}
	return dirs, err
}

// fillOnce fills a directory under another name first: one that has the right name is
// whole. What a process has left that died while it filled is thrown away.
func fillOnce(dir string, fill func(dir string) error) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	part := dir + ".part"
	err := os.RemoveAll(part)
	if err == nil {
		err = os.Mkdir(part, 0o700)
	}
	if err == nil {
		err = fill(part)
	}
	if err == nil {
		err = syncAll(part)
	}
	if err == nil {
		err = os.Rename(part, dir)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(part))
	}
	return nil
}
