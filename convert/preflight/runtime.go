package preflight

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/defaults"
	"github.com/opencontainers/runtime-spec/specs-go/features"

	"github.com/lithify/lithify/convert/daemonconf"
)

// What runtimes say of themselves: the annotations of `runc features`, which crun has, too.
const (
	annotationRunc       = "org.opencontainers.runc.version"
	annotationCrun       = "run.oci.crun.version"
	annotationCheckpoint = "org.opencontainers.runc.checkpoint.enabled"
)

// tryRuntime asks for the runtime that restored containers have: none can be chosen.
func tryRuntime(ctx context.Context, c *client.Client) (string, error) {
	return runtimeOf(ctx, c, daemonconf.Runtime{})
}

// runtimeFacts are those of the runtimes that a configuration has for CRI. Containers of theirs
// may be checkpointed here, and none is restored to be one.
func runtimeFacts(ctx context.Context, o Options) (facts []Fact) {
	conf, err := daemonconf.Read(o.Config)
	if err != nil {
		return nil // containerd-config says so
	}
	for _, r := range conf.Runtimes() {
		facts = append(facts, probe{
			name: "containerd-runtime-" + r.Name, use: "containers that CRI has started by it are checkpointed",
			remedy: "checkpoint other containers: lithify restores all of them by " + defaults.DefaultRuntime,
			try:    asking(func(ctx context.Context, c *client.Client) (string, error) { return runtimeOf(ctx, c, r) }),
		}.fact(ctx, o))
	}
	return facts
}

// runtimeOf has containerd start a runtime's shim, which finds the OCI runtime, as both do
// for a container, and says what they are. It is an error if they cannot restore.
func runtimeOf(ctx context.Context, c *client.Client, r daemonconf.Runtime) (string, error) {
	var options any
	if r.Binary != "" {
		options = &runcoptions.Options{BinaryName: r.Binary}
	}
	info, err := c.RuntimeInfo(ctx, r.Type, options)
	if err != nil {
		return "", fmt.Errorf("shim of %s: %w", cmp.Or(r.Type, defaults.DefaultRuntime), err)
	}
	found := fmt.Sprintf("shim %s %s", info.Name, info.Version.Version)
	all, ok := info.Features.(*features.Features)
	if !ok {
		return "", errors.New(found + ": its runtime says nothing of checkpoints, and is neither runc nor crun")
	}
	for annotation, name := range map[string]string{annotationRunc: "runc", annotationCrun: "crun"} {
		if v := all.Annotations[annotation]; v != "" {
			found += fmt.Sprintf(", %s %s", name, v)
		}
	}
	if all.Annotations[annotationCheckpoint] != "true" {
		return "", errors.New(found + ": built without checkpoints")
	}
	return found, nil
}
