package preflight

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/containerd/containerd/v2/client"
)

// daemon are the probes of a containerd.
var daemon = []probe{
	{
		name: "containerd", use: "containers are committed, checkpointed and restored", required: ofContainers,
		remedy: "start containerd 2.x, or name where it listens: --containerd ADDRESS", try: asking(version),
	}, {
		name: "containerd-plugins", use: "all of containerd works that is configured",
		remedy: "lithify doctor --plugins lists them; ctr plugins ls --detailed says more", try: asking(brokenPlugins),
	}, {
		name: "containerd-deprecations", use: "containerd's next version will run here, too",
		remedy: "ctr deprecations list says more", try: asking(deprecations),
	}, {
		name: "containerd-runtime", use: "containerd starts containers, and its runtime can checkpoint and restore them", required: ofProcesses,
		remedy: "put containerd-shim-runc-v2 beside containerd or into its PATH, and a runc or crun that is built with checkpoints", try: asking(tryRuntime),
	},
}

// asking connects to the daemon for a probe.
func asking(ask func(context.Context, *client.Client) (string, error)) func(context.Context, Options) (string, error) {
	return func(ctx context.Context, o Options) (_ string, err error) {
		if runtime.GOOS != "windows" { // where it is a pipe
			if _, err := os.Stat(o.Containerd); err != nil {
				return "", err
			}
		}
		c, err := client.New(o.Containerd, client.WithTimeout(probeTimeout/2))
		if err != nil {
			return "", fmt.Errorf("containerd at %s does not answer: %w", o.Containerd, err)
		}
		defer func() { err = errors.Join(err, c.Close()) }()
		return ask(ctx, c)
	}
}

func version(ctx context.Context, c *client.Client) (string, error) {
	v, err := c.Version(ctx)
	return v.Version, err
}

// brokenPlugins are those that did not start, but for those that have nothing to do here.
func brokenPlugins(ctx context.Context, c *client.Client) (string, error) {
	all, err := plugins(ctx, c)
	if err != nil {
		return "", err
	}
	var broken []string
	count := map[State]int{}
	for _, p := range all {
		count[p.State]++
		if p.State == Failed {
			broken = append(broken, p.Name()+": "+p.Reason)
		}
	}
	if len(broken) > 0 {
		return "", errors.New(strings.Join(broken, "; "))
	}
	return fmt.Sprintf("%d ok, %d skipped", count[Loaded], count[Skipped]), nil
}

func deprecations(ctx context.Context, c *client.Client) (string, error) {
	server, err := c.IntrospectionService().Server(ctx)
	if err != nil {
		return "", err
	}
	var warnings []string
	for _, d := range server.Deprecations {
		warnings = append(warnings, d.ID+": "+d.Message)
	}
	if len(warnings) > 0 {
		return "", errors.New(strings.Join(warnings, "; "))
	}
	return "none", nil
}
