package natsd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
)

// dirLock keeps a second server off a store directory. The system releases it
// with the process, however that ends.
type dirLock struct{ f *os.File }

// errLocked is what tryLock says when another process holds the lock.
var errLocked = errors.New("locked by another process")

func lockDir(dir string) (*dirLock, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	if err := tryLock(f); err != nil {
		f.Close()
		if errors.Is(err, errLocked) {
			return nil, fmt.Errorf("%s is in use by another server%s: %w", dir, holder(dir), errdefs.ErrUnavailable)
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	// The number is in a file of its own: Windows locks are mandatory, no other
	// process can read the locked file.
	if err := os.WriteFile(pidFile(dir), fmt.Appendln(nil, os.Getpid()), 0o600); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return &dirLock{f}, nil
}

func (l *dirLock) unlock() error { return l.f.Close() }

func pidFile(dir string) string { return filepath.Join(dir, "pid") }

func holder(dir string) string {
	b, err := os.ReadFile(pidFile(dir))
	if err != nil {
		return ""
	}
	return " (process " + strings.TrimSpace(string(b)) + ")"
}
