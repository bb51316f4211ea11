package restore

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/lithify/lithify/restore/archive"
)

// Network is what a restored container reaches.
type Network string

const (
	// NoNetwork is a network namespace of its own with nothing but loopback.
	NoNetwork Network = "none"
	// CNINetwork is one of its own that the machine's CNI plugins have connected.
	CNINetwork Network = "cni"
	// HostNetwork is this machine's.
	HostNetwork Network = "host"
)

// Mount puts a file or directory of this machine into the container.
type Mount struct {
	Source, Target string // absolute paths
	ReadOnly       bool
	// Within is a directory in which Source has to lie, whatever links are on the way from it:
	// what is mounted is what was found there, though somebody changes that at the same time.
	// How the path of Within itself is followed is the caller's to see to. "": anywhere.
	Within string
}

// spec derives the container's spec from containerd's defaults, the base image and the
// options. Of the container that was dumped it takes which namespaces that had to itself,
// because CRIU puts processes back into the kinds that they were dumped in, and whether it
// had the control groups' file system.
func (r *run) spec(img client.Image, cp *checkpoint) oci.SpecOpts {
	was := cp.was
	return oci.Compose(
		oci.WithDefaultSpec(),
		oci.WithImageConfig(img),
		withArgs,
		oci.WithHostname(r.opts.Hostname),
		oci.WithCgroup("/lithify/"+r.daemon.Namespace()+"/"+r.opts.Name),
		func(_ context.Context, _ oci.Client, _ *containers.Container, s *oci.Spec) error {
			s.Linux.Namespaces = nil
			for _, ns := range was.Namespaces {
				one := specs.LinuxNamespace{Type: specs.LinuxNamespaceType(ns)}
				if one.Type == specs.NetworkNamespace && r.opts.Network == CNINetwork {
					one.Path = r.netnsFile()
				}
				s.Linux.Namespaces = append(s.Linux.Namespaces, one)
			}
			s.Mounts = append(s.Mounts, r.mounts(was)...)
			if len(r.criuOptions(cp)) > 0 {
				s.Annotations = map[string]string{criuConfig: r.configFile()}
			}
			return nil
		},
	)
}

// withArgs names a program where the image names none: a spec needs one. It is never
// started, for the processes come out of the checkpoint.
func withArgs(_ context.Context, _ oci.Client, _ *containers.Container, s *oci.Spec) error {
	if len(s.Process.Args) == 0 {
		s.Process.Args = []string{"restored"}
	}
	return nil
}

// mounts are those beside containerd's defaults.
func (r *run) mounts(was *archive.Derived) (mounts []specs.Mount) {
	if slices.ContainsFunc(was.Mounts, func(m archive.Mount) bool { return m.Type == "cgroup" || m.Type == "cgroup2" }) {
		mounts = append(mounts, specs.Mount{Type: "cgroup", Source: "cgroup", Destination: "/sys/fs/cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}})
	}
	for i, m := range r.opts.Mounts {
		mode := "rw"
		if m.ReadOnly {
			mode = "ro"
		}
		mounts = append(mounts, specs.Mount{Type: "bind", Source: r.source(i), Destination: m.Target, Options: []string{"rbind", mode}})
	}
	return mounts
}

// owned are the namespaces that a container must have had to itself.
var owned = []specs.LinuxNamespaceType{specs.PIDNamespace, specs.MountNamespace, specs.IPCNamespace, specs.UTSNamespace}

// agrees refuses a container that cannot be restored as the options have it, each time
// with what to do.
func (r *run) agrees(was *archive.Derived) error {
	refuse := func(why string, args ...any) error {
		return fmt.Errorf("the container "+why+": %w", append(args, errdefs.ErrFailedPrecondition)...)
	}
	has := func(ns specs.LinuxNamespaceType) bool { return slices.Contains(was.Namespaces, string(ns)) }
	if was.Terminal {
		return refuse("was run with a terminal, which cannot be restored")
	}
	if has(specs.UserNamespace) {
		return refuse("was run in a user namespace, which is not restored")
	}
	for _, ns := range owned {
		if !has(ns) {
			return refuse("was run in its machine's %s namespace, which cannot be restored", ns)
		}
	}
	network := HostNetwork
	if has(specs.NetworkNamespace) {
		network = NoNetwork
	}
	if network != r.opts.Network && (network == HostNetwork || r.opts.Network == HostNetwork) {
		return refuse("had the network %q and is to have %q: say --network %s", network, r.opts.Network, network)
	}
	var missing []string
	for _, m := range was.Mounts {
		given := slices.ContainsFunc(r.opts.Mounts, func(o Mount) bool { return o.Target == m.Destination })
		if m.Host && !given {
			missing = append(missing, m.Destination)
		}
	}
	if len(missing) > 0 { // CRIU would look for something there
		return refuse("had files of its machine mounted at %s: say what is to be there with --mount SOURCE:%s", strings.Join(missing, ", "), missing[0])
	}
	return nil
}
