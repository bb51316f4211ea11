package stack

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/defaults"
	"github.com/containerd/containerd/v2/pkg/identifiers"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// DefaultAddress is where containerd listens.
const DefaultAddress = defaults.DefaultAddress

// DefaultNamespace is that of ctr and nerdctl; Kubernetes' is k8s.io.
const DefaultNamespace = namespaces.Default

// dialTimeout is how long a daemon is waited for that does not answer.
const dialTimeout = 10 * time.Second

// Daemon is a containerd on this machine, seen in one namespace.
type Daemon struct {
	client             *client.Client
	address, namespace string
}

// Dial connects to the containerd that listens at address, a path or a Windows pipe;
// "" is DefaultAddress, and as a namespace DefaultNamespace. One that is not there is an
// errdefs.ErrUnavailable.
func Dial(address, namespace string) (*Daemon, error) {
	address, namespace = cmp.Or(address, DefaultAddress), cmp.Or(namespace, DefaultNamespace)
	if err := identifiers.Validate(namespace); err != nil {
		return nil, fmt.Errorf("namespace %q: %w", namespace, err)
	}
	c, err := client.New(address, client.WithDefaultNamespace(namespace), client.WithTimeout(dialTimeout))
	if err != nil {
		return nil, fmt.Errorf("containerd at %s does not answer: %w: %w", address, err, errdefs.ErrUnavailable)
	}
	return &Daemon{c, address, namespace}, nil
}

// Close ends the connection.
func (d *Daemon) Close() error { return d.client.Close() }

// Client is the connection itself, in the daemon's namespace. It ends with Close.
func (d *Daemon) Client() *client.Client { return d.client }

// Namespace is the one that the daemon is seen in.
func (d *Daemon) Namespace() string { return d.namespace }

// Container is one that the daemon has, running or not.
type Container struct {
	daemon *Daemon
	client.Container
	info containers.Container
}

// LabelName is the label under which nerdctl keeps a container's name.
const LabelName = "nerdctl/name"

// Container finds a container by its ID, by the name that nerdctl gave it, or by the
// beginning of its ID, if no other begins so.
func (d *Daemon) Container(ctx context.Context, name string) (*Container, error) {
	found, err := d.find(ctx, name)
	if err != nil {
		return nil, err
	}
	info, err := found.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", name, err)
	}
	return &Container{daemon: d, Container: found, info: info}, nil
}

func (d *Daemon) find(ctx context.Context, name string) (client.Container, error) {
	if name == "" {
		return nil, fmt.Errorf("the container has no name: %w", errdefs.ErrInvalidArgument)
	}
	all, err := d.client.Containers(ctx)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	var begin []client.Container
	for _, c := range all {
		if c.ID() == name {
			return c, nil
		}
		info, err := c.Info(ctx, client.WithoutRefreshedMetadata) // as listed
		if err != nil {
			return nil, err
		}
		if info.Labels[LabelName] == name {
			return c, nil
		}
		if strings.HasPrefix(c.ID(), name) {
			begin = append(begin, c)
		}
	}
	switch len(begin) {
	case 1:
		return begin[0], nil
	case 0:
		return nil, fmt.Errorf("no container %s among the %d of namespace %s at %s: %w", name, len(all), d.namespace, d.address, errdefs.ErrNotFound)
	}
	return nil, fmt.Errorf("%d containers have an ID that begins with %s, the first two %s and %s: %w", len(begin), name, begin[0].ID(), begin[1].ID(), errdefs.ErrInvalidArgument)
}

// Daemon is the one that has the container.
func (c *Container) Daemon() *Daemon { return c.daemon }

// Image is the name of the image that the container was made from; "" if none.
func (c *Container) Image() string { return c.info.Image }

// Images lists the daemon's images: that of the container first, if it is still there, and
// last those that CRI names by the digest of their config, which no registry knows.
func (c *Container) Images(ctx context.Context) ([]images.Image, error) {
	all, err := c.daemon.client.ImageService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	rank := func(img images.Image) int {
		switch {
		case strings.HasPrefix(img.Name, "sha256:"):
			return 2
		case img.Name != c.info.Image:
			return 1
		}
		return 0
	}
	slices.SortStableFunc(all, func(a, b images.Image) int { return rank(a) - rank(b) })
	return all, nil
}

// Parent is the snapshot that a container's own one stands on.
type Parent struct {
	Name string // "" if there is none
	spec *oci.Spec
}

// Parent finds what the container stands on.
func (c *Container) Parent(ctx context.Context) (p Parent, err error) {
	if c.info.Snapshotter == "" || c.info.SnapshotKey == "" {
		return p, fmt.Errorf("container %s has no snapshot: %w", c.ID(), errdefs.ErrFailedPrecondition)
	}
	s, err := c.daemon.client.SnapshotService(c.info.Snapshotter).Stat(ctx, c.info.SnapshotKey)
	if err != nil {
		return p, fmt.Errorf("snapshot of container %s: %w", c.ID(), err)
	}
	if p.spec, err = c.Spec(ctx); err != nil {
		return p, fmt.Errorf("spec of container %s: %w", c.ID(), err)
	}
	p.Name = s.Parent
	return p, nil
}

// Is reports whether p is what containerd unpacked of the layers with this chain ID, or a
// copy of it with the owners of a user namespace.
func (p Parent) Is(chain string) bool {
	return p.Name == chain || strings.HasPrefix(p.Name, chain+"-") || p.Name == p.remapped(chain)
}

// remapped is the name that containerd's client (2.4.2, client.remappedSnapshot) gives the
// copy; before 2.1 that was the chain ID and the mapping behind a "-".
func (p Parent) remapped(chain string) string {
	if p.spec.Linux == nil {
		return chain
	}
	type idMap struct{ UidMap, GidMap []specs.LinuxIDMapping }
	byID := func(a, b specs.LinuxIDMapping) int { return cmp.Compare(a.ContainerID, b.ContainerID) }
	raw, err := json.Marshal(struct {
		Parent string
		IDMap  idMap
	}{chain, idMap{slices.SortedStableFunc(slices.Values(p.spec.Linux.UIDMappings), byID), slices.SortedStableFunc(slices.Values(p.spec.Linux.GIDMappings), byID)}})
	if err != nil {
		return chain
	}
	return digest.FromBytes(raw).String()
}

// MountPoints are where the container's own mounts lie, relative to its root. The
// runtime makes what is missing there, in the container's own layer.
func (c *Container) MountPoints(ctx context.Context) ([]string, error) {
	spec, err := c.Spec(ctx)
	if err != nil {
		return nil, fmt.Errorf("spec of container %s: %w", c.ID(), err)
	}
	var points []string
	for _, m := range spec.Mounts {
		points = append(points, strings.Trim(m.Destination, "/"))
	}
	return points, nil
}

// Content is what the container's daemon has pulled.
func (c *Container) Content() content.Provider { return c.daemon.client.ContentStore() }
