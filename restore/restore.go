package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime"
	"time"

	"github.com/containerd/containerd/v2/defaults"
	"github.com/containerd/containerd/v2/pkg/identifiers"
	"github.com/containerd/errdefs"
	"github.com/moby/sys/signal"
	"github.com/opencontainers/go-digest"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/stack"
	"github.com/lithify/lithify/restore/archive"
	"github.com/lithify/lithify/restore/encrypt"
	"github.com/lithify/lithify/restore/health"
	"github.com/lithify/lithify/restore/image"
)

var tracer = otel.Tracer("github.com/lithify/lithify/restore")

const (
	// DefaultRoot is where checkpoints are kept unpacked and the restored containers'
	// logs lie.
	DefaultRoot = "/var/lib/lithify/restore"
	// DefaultCache is room for some dozens of checkpoints of services.
	DefaultCache = 20 << 30
	// DefaultTimeout bounds the time from CRIU's start to processes that run.
	DefaultTimeout = 5 * time.Minute
	// settle is how long processes are watched that have just been restored: one that
	// uses what this CPU has not dies at once.
	settle = 200 * time.Millisecond
)

// Labels of what a restore makes in containerd: containers and base images.
const (
	labelUse        = "io.github.lithify.restore"
	labelCheckpoint = "io.github.lithify.restore.checkpoint" // the image's digest
	labelJob        = "io.github.lithify.restore.job"
	labelRoot       = "io.github.lithify.restore.root" // that has the lock of its name

	useBase    = "base"    // an image
	useHalf    = "half"    // a container of which it is not known whether it runs
	useRunning = "running" // one that has run
)

// Options say what a checkpoint becomes. Name is required.
type Options struct {
	Name        string // and ID of the new container
	Snapshotter string // default: containerd's, overlayfs
	Network     Network
	CNI         CNI // for CNINetwork
	// TCPClose has the processes find closed what TCP connections they had, and TCPEstablished
	// go on with them. Without either a checkpoint that has any is refused.
	TCPClose, TCPEstablished bool
	Hostname                 string // default: what it was
	Mounts                   []Mount

	// Clone is "I/N" of a container that is one of several. With Name and the image's
	// digest it is in the file /run/lithify/clone of the container, as LITHIFY_CLONE and
	// the like, and in Refresh's environment.
	Clone string
	// Env are variables, NAME=VALUE, that are in the file /run/lithify/env of the container
	// and in Refresh's environment: a process that runs gets no others.
	Env []string
	// Secrets are put into the container for its user to read.
	Secrets []Secret
	// Refresh is a script for the container's /bin/sh that is run once it is restored,
	// and has to end well: to draw anew what the checkpoint has in memory.
	Refresh string
	// Signal, as HUP, is sent to the container's first process after that.
	Signal string

	// Check says when the container, refreshed, is healthy: before that it does not count
	// as restored, and if it does not get so it is removed. nil: once it runs.
	Check *health.Check
	// Alive, if set, hears of each check, and how many bytes were read, of each piece. It is
	// called from any goroutine and returns at once.
	Alive func(n int64)
	// Quiet, if set, hears before a phase in which nothing is heard how long that may be and
	// why, and end after it: as registry.Options.Quiet.
	Quiet func(bound time.Duration, why string) (end func())

	// Base is a reference with a digest to be taken for the base image instead of the
	// one that the checkpoint names.
	Base string
	// Allow refuses what is not to be restored here. It is asked before more than the
	// image's manifest has been read. nil: nothing.
	Allow func(context.Context, *image.Image) error
	// Decrypt are the private keys by which a checkpoint that is encrypted is read.
	Decrypt encrypt.Keys
	// LocalFor is whose checkpoint it is, a tenant's, if they may be given this machine's own copy
	// while the registry does not answer: of what they had restored here by the same digest of the
	// same repository before. Allow and Decrypt are asked as ever; what the registry would say
	// today, that they may no longer read it among that, nobody knows. Empty: nobody may.
	LocalFor string
	patience time.Duration // askTimeout, but for tests
	// Open finds a base image that containerd has not got. nil: that is an error.
	Open func(ref string) (convert.Source, error)

	// Cache is how many bytes the checkpoints may take that stay unpacked, beside those that
	// are used; default DefaultCache.
	Cache   int64
	Root    string        // default DefaultRoot; containerd has to see it under the same name
	Timeout time.Duration // default DefaultTimeout
	// Job is put on the container as a label. A container of the same name and job is
	// that of an earlier attempt: taken over if it runs, else removed.
	Job string
}

// Result tells what runs.
type Result struct {
	Container  string        `json:"container"`
	Namespace  string        `json:"namespace"`
	Checkpoint string        `json:"checkpoint"` // reference
	Digest     digest.Digest `json:"digest"`     // of the checkpoint image
	Base       string        `json:"base"`
	PID        uint32        `json:"pid"`
	IPs        []netip.Addr  `json:"ips,omitempty"` // of a network from CNI
	Processes  int           `json:"processes"`
	// Log is the file that has the container's output, and CRIULog what CRIU wrote.
	Log     string `json:"log"`
	CRIULog string `json:"criuLog"`
	// Cached says that the checkpoint had been unpacked here before.
	Cached bool `json:"cached"`
	// Local is why this machine's copy was restored without its registry being asked: what became
	// of that.
	Local string `json:"local,omitempty"`

	Took time.Duration `json:"took"` // from the call to processes that run
	// CRIU is how long CRIU says that it took, and Pages how many pages of memory it put
	// back.
	CRIU  time.Duration `json:"criu,omitempty"`
	Pages int64         `json:"pages,omitempty"`
	// Shared is what it has in common with all others that are made of the checkpoint.
	Shared *archive.Shared `json:"shared,omitempty"`
}

// run is one restore.
type run struct {
	daemon *stack.Daemon
	opts   Options
	src    convert.Source
	img    *image.Image
	local  *local // nil: the registry has been asked

	secrets []secret

	began time.Time
	took  time.Duration // until the processes ran
}

// Container restores the checkpoint that src names as a container of d. It returns when
// the container's processes run.
//
// What cannot be restored here or as the options have it is an
// errdefs.ErrFailedPrecondition that says what to do, a name that is taken an
// errdefs.ErrAlreadyExists. After an error nothing is left of the container.
func Container(ctx context.Context, d *stack.Daemon, src convert.Source, o Options) (_ *Result, err error) {
	ctx, span := tracer.Start(ctx, "restore container")
	span.SetAttributes(attribute.String("lithify.container", o.Name), attribute.String("lithify.checkpoint", src.Name()))
	defer func() {
		if err != nil {
			span.RecordError(err)
		}
		span.End()
	}()
	if runtime.GOOS != "linux" {
		return nil, fmt.Errorf("restore on %s, which has no CRIU: %w", runtime.GOOS, errdefs.ErrNotImplemented)
	}
	r := &run{daemon: d, opts: o.withDefaults(), src: src, began: time.Now()}
	if err := r.opts.Validate(); err != nil {
		return nil, err
	}
	if r.secrets, err = readSecrets(r.opts.Secrets); err != nil {
		return nil, err
	}
	if err := r.openImage(ctx); err != nil {
		return nil, err
	}
	unlock, err := r.lock()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if had, err := r.earlier(ctx); had != nil || err != nil {
		return had, err
	}
	return r.restore(ctx)
}

func (o Options) withDefaults() Options {
	o.Network = cmp.Or(o.Network, NoNetwork)
	o.Snapshotter = cmp.Or(o.Snapshotter, defaults.DefaultSnapshotter)
	o.Root = cmp.Or(o.Root, DefaultRoot)
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	o.Cache = cmp.Or(o.Cache, DefaultCache)
	o.patience = cmp.Or(o.patience, askTimeout)
	if o.Alive == nil {
		o.Alive = func(int64) {}
	}
	if o.Quiet == nil {
		o.Quiet = func(time.Duration, string) func() { return func() {} }
	}
	if root, err := filepath.Abs(o.Root); err == nil { // containerd's shim has another working directory
		o.Root = root
	}
	return o
}

// Validate refuses what no checkpoint could be restored with: an
// errdefs.ErrInvalidArgument.
func (o Options) Validate() error {
	if err := identifiers.Validate(o.Name); err != nil {
		return fmt.Errorf("name of the container: %w", err)
	}
	if o.Signal != "" {
		if _, err := signal.ParseSignal(o.Signal); err != nil {
			return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
		}
	}
	if o.Network != "" && o.Network != NoNetwork && o.Network != HostNetwork && o.Network != CNINetwork {
		return fmt.Errorf("network %q is none of none, host and cni: %w", o.Network, errdefs.ErrInvalidArgument)
	}
	if o.TCPClose && o.TCPEstablished {
		return fmt.Errorf("TCP connections cannot be closed and go on: %w", errdefs.ErrInvalidArgument)
	}
	if o.Check != nil {
		if err := o.Check.Validate(); err != nil {
			return err
		}
	}
	return o.checkIdentity()
}
