package run

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	"github.com/lithify/lithify/build"
	"github.com/lithify/lithify/jobs"
	buildjob "github.com/lithify/lithify/jobs/build"
)

// Config says how a worker of a pool builds. With neither an address nor a root directory
// it does not.
type Config struct {
	Address string // of a buildkitd that runs
	Daemon  build.DaemonConfig
	Network string // what steps may have at most: host, which is all that buildkitd gives, or none
	Secrets string // directory of a file for each secret, by its ID
}

// AddFlags adds the flags of every program that is a worker.
func (c *Config) AddFlags(fs *flag.FlagSet) {
	fs.StringVar(&c.Address, "buildkit", "", "where a buildkitd listens, as unix:///run/buildkit/buildkitd.sock; without it and --buildkit-root no builds are taken")
	fs.StringVar(&c.Daemon.Root, "buildkit-root", "", "start a buildkitd for builds that keeps its cache in this directory; needs root, and buildkitd and runc in PATH")
	fs.StringVar(&c.Network, "buildkit-network", "host", "what the steps of builds may have at most: host, the network of buildkitd's machine with its loopback, or none")
	fs.IntVar(&c.Daemon.Parallel, "buildkit-parallel", 0, "steps at a time in the buildkitd that is started (default no bound)")
	fs.StringVar(&c.Secrets, "build-secrets", "", "directory of the secrets that builds may name: a file for each, whose name is its ID")
}

// Enabled reports whether builds are to be taken.
func (c Config) Enabled() bool { return c.Address != "" || c.Daemon.Root != "" }

// Start gives the handler, once its buildkitd answers, and the classes of the platforms that
// it builds for. stop ends what was started, once no job runs any more.
func (c Config) Start(ctx context.Context, log *slog.Logger) (h *Handler, classes []jobs.Class, stop func() error, err error) {
	switch {
	case c.Address != "" && c.Daemon.Root != "":
		return nil, nil, nil, fmt.Errorf("--buildkit and --buildkit-root exclude each other: %w", errdefs.ErrInvalidArgument)
	case c.Network != "host" && c.Network != "none":
		return nil, nil, nil, fmt.Errorf("--buildkit-network %q is neither host nor none: %w", c.Network, errdefs.ErrInvalidArgument)
	case strings.ContainsAny(c.Secrets, `,"`):
		return nil, nil, nil, fmt.Errorf("--build-secrets %s: the path has a comma or a quote: %w", c.Secrets, errdefs.ErrInvalidArgument)
	}
	h = &Handler{Engine: build.Engine{Address: c.Address, Network: c.Network}, Secret: c.secret}
	stop = func() error { return nil }
	if c.Daemon.Root != "" {
		c.Daemon.Log = log
		if h.Engine.Address, stop, err = c.daemon(ctx); err != nil {
			return nil, nil, nil, err
		}
	}
	platforms, err := h.Engine.Platforms(ctx)
	if err != nil {
		return nil, nil, nil, errors.Join(err, stop())
	}
	for _, p := range platforms {
		class := jobs.Class{Kind: buildjob.Kind, OS: p.OS, Arch: p.Architecture, Feature: jobs.Any}
		if !slices.Contains(classes, class) {
			classes = append(classes, class)
		}
	}
	return h, classes, stop, nil
}

// daemon runs one that outlives ctx: jobs that run still need it.
func (c Config) daemon(ctx context.Context) (address string, stop func() error, err error) {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	interrupted := context.AfterFunc(ctx, cancel) // until it answers
	ready := make(chan string, 1)
	ended := make(chan struct{})
	var eg errgroup.Group
	eg.Go(func() error {
		defer close(ended)
		return build.RunDaemon(running, c.Daemon, func(address string) { ready <- address })
	})
	stop = func() error { cancel(); return eg.Wait() }
	select {
	case address = <-ready:
		if !interrupted() {
			return "", nil, errors.Join(ctx.Err(), stop())
		}
		return address, stop, nil
	case <-ended:
		cancel()
		return "", nil, eg.Wait()
	}
}

func (c Config) secret(id string) (string, error) {
	if c.Secrets == "" {
		return "", fmt.Errorf("%w: this worker has none, see --build-secrets", errdefs.ErrNotFound)
	}
	path := filepath.Join(c.Secrets, id)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w: this worker has none of that name", errdefs.ErrNotFound)
	}
	return "id=" + id + ",src=" + path, nil
}
