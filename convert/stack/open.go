package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/mount/manager"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/transfer"
	"github.com/containerd/containerd/v2/core/transfer/local"
	"github.com/containerd/containerd/v2/core/unpack"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	content "github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/gofrs/flock"
	bolt "go.etcd.io/bbolt"
)

// The snapshotters, by containerd's names.
const (
	Overlayfs = "overlayfs"
	EROFS     = "erofs"
	BlockCIM  = "blockcim" // of Windows, which unpacks and mounts nothing
)

// Stack is containerd without its daemon: content store, metadata, snapshotters,
// differs, mounts and transfers, in this process and below one directory. What is in it
// stays as long as a lease has it, and no longer than the process: see [Stack.Lease].
type Stack struct {
	transfer.Transferrer

	root   string
	opened time.Time
	log    *slog.Logger
	db     *metadata.DB
	images images.Store
	leases leases.Manager
	mounts mount.Manager
	// missing says why this host has not got a snapshotter.
	missing map[string]error
	// closers are closed in the reverse order.
	closers []func() error
}

// namespace is the only one of a stack.
const namespace = "lithify"

// lanes is how many layers are fetched or unpacked at a time.
const lanes = 4

// Open makes a stack at root, which is made if it is not there, and which one process
// has at a time: a second one gets an errdefs.ErrUnavailable that says who has it. What a process
// that died has left there is cleaned up, mounts too. A directory with other things in it
// is refused.
//
// A snapshotter that this host cannot run is left out with a warning. On Windows there is
// BlockCIM alone, on other systems but Linux none, and the rest works.
func Open(ctx context.Context, root string, log *slog.Logger) (_ *Stack, err error) {
	s := &Stack{log: log, missing: map[string]error{}}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open stack at %s: %w", root, err), s.Close())
		}
	}()
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	if s.root, err = filepath.Abs(root); err != nil {
		return nil, err
	}
	if s.root, err = filepath.EvalSymlinks(s.root); err != nil { // as the kernel names mounts
		return nil, err
	}
	if err := s.lock(); err != nil {
		return nil, err
	}
	if err := s.unmountAll(); err != nil {
		return nil, err
	}
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	if err := s.forget(within(ctx)); err != nil {
		return nil, err
	}
	return s, nil
}

// within gives a context the namespace.
func within(ctx context.Context) context.Context { return namespaces.WithNamespace(ctx, namespace) }

// Opened is when the stack was opened, by the clock of the file system: a file that
// unpacking gives the present time is not older.
func (s *Stack) Opened() time.Time { return s.opened }

func (s *Stack) at(name string) string { return filepath.Join(s.root, name) }

const (
	lockName = "stack.lock" // by which a stack is known, too
	pidName  = "pid"        // as long as the stack is open
)

// lock makes root ours. The process's ID is in a file of its own: Windows lets nobody
// read one that is locked.
func (s *Stack) lock() error {
	has, err := os.ReadDir(s.root)
	if err != nil {
		return err
	}
	if len(has) > 0 && !slices.ContainsFunc(has, func(e fs.DirEntry) bool { return e.Name() == lockName }) {
		return fmt.Errorf("it is not empty and no stack: name a directory of its own: %w", errdefs.ErrFailedPrecondition)
	}
	f := flock.New(s.at(lockName))
	ours, err := f.TryLock()
	if err != nil {
		return err
	}
	if !ours {
		who := "another process"
		if pid, err := os.ReadFile(s.at(pidName)); err == nil {
			who = "process " + strings.TrimSpace(string(pid))
		}
		return fmt.Errorf("%s has it: %w", who, errdefs.ErrUnavailable)
	}
	s.closers = append(s.closers, func() error { return errors.Join(os.Remove(s.at(pidName)), f.Close()) })
	return os.WriteFile(s.at(pidName), []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600)
}

// Abandoned reports whether dir is the root of a stack of this user's whose process has died
// before it closed it. That is asked of the lock: a number tells nothing of a process of another
// account or container, and is used again.
func Abandoned(dir string) bool {
	if !ours(dir) {
		return false
	}
	if _, err := os.Stat(filepath.Join(dir, pidName)); err != nil {
		return false // it is about to be opened, or has been closed
	}
	f := flock.New(filepath.Join(dir, lockName), flock.SetFlag(os.O_RDONLY))
	defer f.Close()
	free, err := f.TryLock()
	return free && err == nil
}

func (s *Stack) open(ctx context.Context) error {
	cs, err := content.NewStore(s.at("content"))
	if err != nil {
		return err
	}
	meta, err := s.bolt("meta.db")
	if err != nil {
		return err
	}
	made, err := s.snapshotters(ctx)
	for _, sn := range made {
		s.closers = append(s.closers, sn.Close)
	}
	if err != nil {
		return err
	}
	s.db = metadata.NewDB(meta, cs, made)
	if err := s.db.Init(ctx); err != nil {
		return err
	}
	s.images, s.leases = metadata.NewImageStore(s.db), metadata.NewLeaseManager(s.db)
	if err := s.openMounts(); err != nil {
		return err
	}
	unpackers, err := s.unpackers(made)
	if err != nil {
		return err
	}
	s.Transferrer = local.NewTransferService(s.db.ContentStore(), s.images, local.TransferConfig{
		Leases: s.leases, MaxConcurrentDownloads: lanes, MaxConcurrentUploadedLayers: lanes, MaxConcurrentUnpacks: lanes,
		UnpackPlatforms: unpackers,
	})
	return nil
}

func (s *Stack) bolt(name string) (*bolt.DB, error) {
	db, err := bolt.Open(s.at(name), 0o600, nil) // nobody else has it: we have the lock
	if err == nil {
		s.closers = append(s.closers, db.Close)
	}
	return db, err
}

// mounting are the directories in which a stack mounts.
var mounting = []string{"mounts", "views"}

// openMounts begins with no mounts: no mount outlives its process here.
func (s *Stack) openMounts() error {
	for _, name := range slices.Concat(mounting, []string{"mounts.db"}) {
		if err := os.RemoveAll(s.at(name)); err != nil {
			return err
		}
	}
	if err := os.Mkdir(s.at("views"), 0o700); err != nil {
		return err
	}
	info, err := os.Stat(s.at("views"))
	if err != nil {
		return err
	}
	s.opened = info.ModTime()
	db, err := bolt.Open(s.at("mounts.db"), 0o600, nil)
	if err != nil {
		return err
	}
	s.mounts, err = manager.NewManager(db, s.at("mounts"), append(mountHandlers(), manager.WithAllowedRoot(s.root))...)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	s.closers = append(s.closers, s.mounts.(io.Closer).Close) // the database, too
	s.db.RegisterCollectibleResource(metadata.ResourceMount, s.mounts.(metadata.Collector))
	return nil
}

// unpackers say by which differ layers get into a snapshotter, whatever their platform is.
func (s *Stack) unpackers(made map[string]snapshots.Snapshotter) (list []unpack.Platform, err error) {
	for name := range made {
		a, err := applier(name, s.db.ContentStore())
		if err != nil {
			return nil, fmt.Errorf("differ of snapshotter %s: %w", name, err)
		}
		list = append(list, unpack.Platform{
			Platform: platforms.All, SnapshotterKey: name, Snapshotter: s.db.Snapshotter(name), Applier: a, LayerTypes: layerTypes,
		})
	}
	return list, nil
}

// forget removes all leases, and then what nothing has any more.
func (s *Stack) forget(ctx context.Context) error {
	left, err := s.leases.List(ctx)
	if err != nil {
		return err
	}
	for _, l := range left {
		if err := s.leases.Delete(ctx, l); err != nil {
			return err
		}
	}
	return s.collect(ctx)
}

// collect removes what nothing has, from the disk too.
func (s *Stack) collect(ctx context.Context) error {
	_, err := s.db.GarbageCollect(ctx)
	return err
}

// Close unmounts what is still mounted and gives root to the next one.
func (s *Stack) Close() error {
	var errs []error
	if s.root != "" && len(s.closers) > 0 {
		errs = append(errs, s.unmountAll())
	}
	for _, c := range slices.Backward(s.closers) {
		errs = append(errs, c())
	}
	s.closers = nil
	return errors.Join(errs...)
}
