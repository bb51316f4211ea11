package preflight

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/plugin"
)

// State is what became of a plugin as its containerd started.
type State string

// The states.
const (
	Loaded  State = "ok"
	Skipped State = "skipped" // it has nothing to do here
	Failed  State = "error"
	Absent  State = "absent" // it is disabled, or not built in
)

// Plugin is one of containerd's, and what lithify makes of it.
type Plugin struct {
	Type   string `json:"type"`
	ID     string `json:"id"`
	State  State  `json:"state"`
	Reason string `json:"reason,omitempty"` // in containerd's words, why it is not ok
	// For says what lithify has of it; empty: nothing.
	For string `json:"for,omitempty"`
	// Required are the verbs that do not work without.
	Required []string `json:"required_by,omitempty"`
}

// Name is how plugins are called in a configuration.
func (p Plugin) Name() string { return p.Type + "." + p.ID }

// Plugins asks the containerd at an address for all of its plugins, in the order of
// their names. Those that lithify needs are there in any case, if only as Absent.
func Plugins(ctx context.Context, address string) (all []Plugin, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	_, err = asking(func(ctx context.Context, c *client.Client) (string, error) {
		all, err = plugins(ctx, c)
		return "", err
	})(ctx, Options{Containerd: address})
	return all, err
}

func plugins(ctx context.Context, c *client.Client) ([]Plugin, error) {
	answer, err := c.IntrospectionService().Plugins(ctx)
	if err != nil {
		return nil, err
	}
	var all []Plugin
	for _, p := range answer.Plugins {
		one := Plugin{Type: p.Type, ID: p.ID, State: Loaded}
		if p.InitErr != nil {
			one.State, one.Reason = Failed, p.InitErr.Message
			// The API tells them apart by their text alone, and ctr does so, too.
			if before, after, skipped := strings.Cut(one.Reason, plugin.ErrSkipPlugin.Error()); skipped {
				one.State, one.Reason = Skipped, strings.Trim(before+after, ": ")
			}
		}
		all = append(all, one)
	}
	for _, u := range uses {
		i := slices.IndexFunc(all, func(p Plugin) bool { return p.Name() == u.Name() })
		if i < 0 {
			u.State, u.Reason = Absent, "disabled_plugins of containerd's configuration names it, or it is not built in"
			all = append(all, u)
			continue
		}
		all[i].For, all[i].Required = u.For, u.Required
	}
	slices.SortFunc(all, func(a, b Plugin) int { return cmp.Compare(a.Name(), b.Name()) })
	return all, nil
}

// Types of plugins.
const (
	grpcType        = "io.containerd.grpc.v1"
	snapshotterType = "io.containerd.snapshotter.v1"
)

var (
	ofContainers = []string{"commit", "checkpoint", "restore"}
	ofProcesses  = []string{"checkpoint", "restore"}
	ofRestore    = []string{"restore"}
)

// uses are the plugins that lithify has something of.
var uses = []Plugin{
	{Type: grpcType, ID: "containers", For: "containers are found, and restored ones made", Required: ofContainers},
	{Type: grpcType, ID: "content", For: "layers and manifests of a container's image are read", Required: ofContainers},
	{Type: grpcType, ID: "images", For: "a container's image is found", Required: ofContainers},
	{Type: grpcType, ID: "snapshots", For: "a container's changes are read", Required: ofContainers},
	{Type: grpcType, ID: "tasks", For: "containers stand still, are dumped and started", Required: ofContainers},
	{Type: "io.containerd.runtime.v2", ID: "task", For: "shims of runtimes are started", Required: ofProcesses},
	{Type: grpcType, ID: "leases", For: "images are kept while a container is restored", Required: ofRestore},
	{Type: grpcType, ID: "diff", For: "base images are unpacked", Required: ofRestore},
	{Type: snapshotterType, ID: "overlayfs", For: "containers are restored there without --snapshotter", Required: ofRestore},
	{Type: snapshotterType, ID: "erofs", For: "EROFS images run, and restores have --snapshotter erofs"},
	{Type: "io.containerd.differ.v1", ID: "erofs", For: "EROFS layers are unpacked"},
	{Type: "io.containerd.grpc.v1", ID: "cri", For: "the kubelet's; lithify restores without it, and CRI in containerd 2.4 cannot restore"},
}

// pluginFacts say which plugins are missing that verbs require. One that is there needs no
// fact of its own.
func pluginFacts(ctx context.Context, o Options) (facts []Fact) {
	all, err := Plugins(ctx, o.Containerd)
	if err != nil {
		return nil // containerd-plugins says so
	}
	for _, p := range all {
		if p.State != Loaded && len(p.Required) > 0 {
			facts = append(facts, Fact{
				Name: p.Name(), Found: fmt.Sprintf("%s: %s", p.State, p.Reason), For: p.For, Required: p.Required,
				Do: "have containerd load it, and start it anew; its log says why it did not",
			})
		}
	}
	return facts
}
