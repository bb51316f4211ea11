package preflight

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
)

// DefaultConfig is what a containerd reads that was told nothing else.
const DefaultConfig = "/etc/containerd/config.toml"

// ConfigOf is the file that the containerd at an address was started with, by its command
// line. One that was told none reads DefaultConfig, if that is there; then, and where its
// process cannot be seen, it is an errdefs.ErrNotFound.
func ConfigOf(ctx context.Context, address string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return asking(configOf)(ctx, Options{Containerd: address})
}

func configOf(ctx context.Context, c *client.Client) (string, error) {
	proc, err := processOf(ctx, c)
	if err != nil {
		return "", err
	}
	line, err := os.ReadFile(filepath.Join(proc, "cmdline"))
	if err != nil {
		return "", err
	}
	path := flagOf(strings.Split(string(bytes.TrimRight(line, "\x00")), "\x00"), "config", "c")
	if path == "" {
		if _, err := os.Stat(DefaultConfig); err != nil {
			return "", fmt.Errorf("containerd has no configuration: %w: %w", err, errdefs.ErrNotFound)
		}
		return DefaultConfig, nil
	}
	if filepath.IsAbs(path) {
		return path, nil
	}
	dir, err := os.Readlink(filepath.Join(proc, "cwd"))
	return filepath.Join(dir, path), err
}

// flagOf is the value of a flag in a command line, by any of its names.
func flagOf(line []string, names ...string) (value string) {
	for i, arg := range line {
		for _, name := range names {
			rest, ok := strings.CutPrefix(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), name)
			switch {
			case !ok || !strings.HasPrefix(arg, "-"):
			case rest == "" && i+1 < len(line):
				value = line[i+1]
			case strings.HasPrefix(rest, "="):
				value = rest[1:]
			}
		}
	}
	return value
}
