package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/opencontainers/go-digest"
)

// lockPoll is how often a lock is tried that another process has.
const lockPoll = 50 * time.Millisecond

// cache holds the checkpoints of this machine, unpacked and validated. Each is a
// directory that nobody writes to and that all share who restore from it.
type cache struct{ dir string }

// keptSuffix is of the directory beside a checkpoint's that has the documents of its images.
const keptSuffix = ".kept"

func (c cache) path(dgst digest.Digest) string { return filepath.Join(c.dir, dgst.Encoded()) }

// kept is where documents lie. They go with the checkpoint.
func (c cache) kept(dgst digest.Digest) string { return c.path(dgst) + keptSuffix }

// get gives a checkpoint's directory, made by fill if it is not there yet: by one process
// at a time, and by none if another one has. It stays until release is called.
func (c cache) get(ctx context.Context, dgst digest.Digest, fill func(dir string) error) (dir string, release func() error, err error) {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return "", nil, err
	}
	dir = c.path(dgst)
	lock := flock.New(dir + ".lock")
	for {
		if _, err := lock.TryRLockContext(ctx, lockPoll); err != nil {
			return "", nil, fmt.Errorf("lock of %s: %w", dir, err)
		}
		if _, err := os.Stat(dir); err == nil {
			now := time.Now() // when it was used last
			if err := os.Chtimes(lock.Path(), now, now); err != nil {
				return "", nil, errors.Join(err, lock.Close())
			}
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

// borrow gives all checkpoints that are there. They stay until release is called.
func (c cache) borrow() (dirs []string, release func() error, err error) {
	var locks []*flock.Flock
	release = func() (err error) {
		for _, l := range locks {
			err = errors.Join(err, l.Close())
		}
		return err
	}
	all, err := c.whole()
	for _, dir := range all {
		lock := flock.New(dir + ".lock")
		got, lerr := lock.TryRLock()
		if err = errors.Join(err, lerr); !got { // it is being removed
			continue
		}
		locks = append(locks, lock)
		if _, serr := os.Stat(dir); serr == nil {
			dirs = append(dirs, dir)
		}
	}
	if err != nil {
		return nil, nil, errors.Join(err, release())
	}
	return dirs, release, nil
}

// trim removes those checkpoints that were used longest ago until the others take no more
// than limit bytes, and what was left of ones by who died over it. None that is used.
func (c cache) trim(limit int64) error {
	dirs, err := c.whole()
	if err != nil {
		return err
	}
	type kept struct {
		dir  string
		size int64
		used time.Time
	}
	var all []kept
	total := int64(0)
	for _, dir := range dirs {
		info, err := os.Stat(dir + ".lock")
		if errors.Is(err, fs.ErrNotExist) {
			continue // no checkpoint of ours
		}
		size, serr := sizeOf(dir)
		if err = errors.Join(err, serr); err != nil {
			return err
		}
		all, total = append(all, kept{dir, size, info.ModTime()}), total+size
	}
	slices.SortFunc(all, func(a, b kept) int { return a.used.Compare(b.used) })
	for _, k := range all {
		if total <= limit {
			break
		}
		gone, err := evict(k.dir)
		if err != nil {
			return err
		}
		if gone {
			total -= k.size
		}
	}
	parts, err := filepath.Glob(filepath.Join(c.dir, "*.part"))
	for _, part := range parts {
		_, perr := evict(strings.TrimSuffix(part, ".part"))
		err = errors.Join(err, perr)
	}
	return err
}

// sizeOf is how many bytes the files of a directory have. One that is gone has none.
func sizeOf(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return n, err
}

// evict removes a checkpoint that nobody uses, under the name by which it would be thrown away
// in any case.
func evict(dir string) (gone bool, err error) {
	lock := flock.New(dir + ".lock")
	got, err := lock.TryLock()
	if err != nil || !got {
		return false, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	part := dir + ".part"
	if err := errors.Join(os.RemoveAll(part), os.RemoveAll(dir+keptSuffix)); err != nil {
		return false, err
	}
	if err := os.Rename(dir, part); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return false, err
	}
	return true, os.RemoveAll(part)
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
