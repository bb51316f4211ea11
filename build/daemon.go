package build

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/gofrs/flock"

	"github.com/lithify/lithify/convert/registry"
)

// DaemonConfig says how a buildkitd of our own runs.
type DaemonConfig struct {
	// Root is where it keeps its state and its cache. One process at a time has it.
	Root string
	// Registries are hosts to which it may speak plain HTTP; loopback addresses are
	// allowed it always.
	Registries []string
	// Parallel is how many steps run at once, of all builds; 0 for no bound.
	Parallel int
	Log      *slog.Logger // hears what it logs, at Debug; default slog.Default()
}

// Daemon is a buildkitd that is a child of this process. It is in process and mount
// namespaces of its own, so that nothing that it started or mounted outlives it; and it does
// not outlive this process.
type Daemon struct {
	cmd     *exec.Cmd
	lock    *flock.Flock
	address string
	log     *slog.Logger

	ended chan struct{}
	last  string // line of its log, valid once ended is closed
	err   error
}

const (
	// startTimeout is far more than a daemon needs that finds a large cache.
	startTimeout = time.Minute
	// stopGrace is for steps to be killed and databases to be closed.
	stopGrace = 10 * time.Second
	// maxSocket is the longest path of a Unix socket, its closing zero left out.
	maxSocket = 107

	// restartPause keeps one that ends at once from taking a core. It doubles while none starts.
	restartPause    = time.Second
	maxRestartPause = time.Minute

	lockPoll  = 100 * time.Millisecond
	readyPoll = 20 * time.Millisecond
)

// The worker is BuildKit's own, with runc and overlayfs: containerd's with the EROFS
// snapshotter cannot run a step (BuildKit 0.34 mounts without the mount manager). No
// entitlement can be had, no frontend is pulled, and the history, which holds logs and
// provenance of each build, is bounded. Of networks BuildKit has the machine's own or one
// of CNI plugins; that a step is to have none is asked for by each build.
const daemonConfig = `root = %q
insecure-entitlements = []
[log]
format = "json"
[grpc]
address = [%q]
[history]
maxAge = "24h"
maxEntries = 50
[frontend."gateway.v0"]
enabled = false
[worker.containerd]
enabled = false
[worker.oci]
enabled = true
snapshotter = "overlayfs"
networkMode = "host"
binary = %q
max-parallelism = %d
`

// StartDaemon starts the buildkitd that is in PATH and waits until it answers. While
// another process has the root directory, it waits for that to end. Stop ends it.
func StartDaemon(ctx context.Context, c DaemonConfig) (_ *Daemon, err error) {
	d := &Daemon{log: c.Log, ended: make(chan struct{})}
	if d.log == nil {
		d.log = slog.Default()
	}
	if c.Root, err = filepath.Abs(c.Root); err != nil {
		return nil, err
	}
	socket := filepath.Join(c.Root, "buildkitd.sock")
	if len(socket) > maxSocket {
		return nil, invalid("buildkitd's root directory %s: the path of a socket in it has more than %d bytes", c.Root, maxSocket)
	}
	d.address = "unix://" + socket
	if err := os.MkdirAll(c.Root, 0o700); err != nil {
		return nil, fmt.Errorf("buildkitd's root directory: %w", err)
	}
	if err := d.take(ctx, c.Root); err != nil {
		return nil, err
	}
	removeCgroups(c.Root)
	if err := d.start(c, socket); err != nil {
		return nil, errors.Join(err, d.lock.Close())
	}
	if err := d.ready(ctx, socket); err != nil {
		d.Stop()
		return nil, err
	}
	return d, nil
}

// RunDaemon runs a daemon until ctx is done, and starts it again where it ends by itself, as
// often as that takes. ready is called with its address once it answers; an error is of a
// daemon that never did, or did not stop.
func RunDaemon(ctx context.Context, c DaemonConfig, ready func(address string)) error {
	d, err := StartDaemon(ctx, c)
	if err != nil {
		return err
	}
	ready(d.Address())
	for {
		select {
		case <-ctx.Done():
			return d.Stop()
		case <-d.ended:
			d.log.ErrorContext(ctx, "buildkitd ended and is started again", "said", d.last, "error", d.err)
		}
		if err := d.Stop(); err != nil {
			return err
		}
		if d = restart(ctx, c, d.log); d == nil {
			return nil
		}
	}
}

// restart tries until a daemon answers; it gives nil once ctx is done.
func restart(ctx context.Context, c DaemonConfig, log *slog.Logger) *Daemon {
	for pause := restartPause; ; pause = min(2*pause, maxRestartPause) {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		d, err := StartDaemon(ctx, c)
		if err == nil || ctx.Err() != nil {
			return d
		}
		log.ErrorContext(ctx, "buildkitd does not start again", "error", err)
	}
}

// take waits for the lock of the root directory.
func (d *Daemon) take(ctx context.Context, root string) error {
	d.lock = flock.New(filepath.Join(root, "lithify.lock"))
	got, err := d.lock.TryLock()
	if !got && err == nil {
		d.log.WarnContext(ctx, "waiting for another build to end, which has the same root directory", "root", root)
		_, err = d.lock.TryLockContext(ctx, lockPoll)
	}
	if err != nil {
		return fmt.Errorf("buildkitd's root directory %s: %w", root, err)
	}
	return nil
}

func (d *Daemon) start(c DaemonConfig, socket string) error {
	daemon, err := find("buildkitd")
	if err != nil {
		return err
	}
	runc, err := find("runc")
	if err != nil {
		return err
	}
	config := fmt.Sprintf(daemonConfig, c.Root, d.address, runc, c.Parallel)
	for _, host := range c.Registries {
		config += fmt.Sprintf("[registry.%q]\nhttp = true\n", host)
	}
	path := filepath.Join(c.Root, "buildkitd.toml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return fmt.Errorf("buildkitd's configuration: %w", err)
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) { // of one that was killed
		return fmt.Errorf("buildkitd's socket: %w", err)
	}
	if d.cmd, err = command(daemon, "--config", path); err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	d.cmd.Stdout, d.cmd.Stderr = w, w
	started := make(chan error)
	go d.run(r, w, started)
	return <-started
}

// run starts the daemon and waits for its end.
func (d *Daemon) run(r, w *os.File, started chan<- error) {
	defer close(d.ended)
	defer r.Close()
	defer pinThread()()
	err := d.cmd.Start()
	w.Close()
	if err != nil {
		err = fmt.Errorf("start buildkitd: %w", err)
	}
	started <- err
	if err != nil {
		return
	}
	d.last = d.relay(r)
	d.err = d.cmd.Wait()
}

func find(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("a buildkitd of our own: %w: %w; install it, or name a buildkitd that runs with --buildkit", errdefs.ErrFailedPrecondition, err)
	}
	return filepath.Abs(path)
}

// relay logs what the daemon logs until it ends, and returns the last that it said.
func (d *Daemon) relay(r io.Reader) (last string) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct{ Level, Msg, Error string }
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			line.Msg = lines.Text()
		}
		last = registry.Redact(strings.TrimSpace(line.Msg + " " + line.Error))
		d.log.Debug("buildkitd", "level", line.Level, "said", last)
	}
	io.Copy(io.Discard, r) // after a line too long, or it would wait for us
	return last
}

// ready waits until the daemon answers.
func (d *Daemon) ready(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("buildkitd does not answer: %w", errdefs.ErrUnavailable))
	defer cancel()
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		if conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket); err == nil {
			conn.Close()
			c, err := Engine{Address: d.address}.dial(ctx)
			if err != nil {
				return err
			}
			return c.Close()
		}
		select {
		case <-d.ended:
			return fmt.Errorf("buildkitd ended: %s: %w", cmp.Or(d.last, fmt.Sprint(d.err)), errdefs.ErrUnavailable)
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Address is where it listens.
func (d *Daemon) Address() string { return d.address }

// Stop ends it in good order, or after a grace by force, and returns when it has ended.
func (d *Daemon) Stop() error {
	d.cmd.Process.Signal(interrupt) // fails only where it has ended
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case <-d.ended:
	case <-grace.C:
		d.log.Warn("buildkitd does not end and is killed", "after", stopGrace)
		d.cmd.Process.Kill()
		<-d.ended
	}
	return d.lock.Close()
}
