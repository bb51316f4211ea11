package preflight

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/lithify/lithify/convert/daemonconf"
)

// config is the probe of a containerd's configuration.
var config = probe{
	name: "containerd-config", use: "containerd heeds all that it is configured with, and its next version will",
	remedy: "lithify doctor --containerd-config FILE explains each; --migrate shows how to have bin_dirs", try: tryConfig,
}

func tryConfig(_ context.Context, o Options) (string, error) {
	c, err := daemonconf.Read(o.Config)
	if err != nil {
		return "", err
	}
	found := fmt.Sprintf("%s, version %d", o.Config, c.Files[0].Version)
	var wrong []string
	for _, f := range c.Findings() {
		if f.State != daemonconf.Moved {
			wrong = append(wrong, fmt.Sprintf("%s (%s)", f.Key, f.State))
		}
	}
	if len(wrong) > 0 {
		return "", errors.New(found + ": " + strings.Join(wrong, ", "))
	}
	return found, nil
}

// withConfig knows the configuration of the containerd that is asked, if that says it.
func (o Options) withConfig(ctx context.Context) Options {
	if o.Config == "" && o.Containerd != "" {
		o.Config, _ = ConfigOf(ctx, o.Containerd) // nobody has asked for it
	}
	return o
}
