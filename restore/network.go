package restore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/libcni"
	current "github.com/containernetworking/cni/pkg/types/100"
)

// CNI says where a machine's CNI plugins are and are configured. The zero value is where
// containerd looks.
type CNI struct {
	ConfDir string   // default DefaultConfDir; the first .conflist in it counts
	BinDirs []string // default DefaultBinDir
}

// Where containerd looks.
const (
	DefaultConfDir = "/etc/cni/net.d"
	DefaultBinDir  = "/opt/cni/bin"
)

// device is what the container calls its own end.
const device = "eth0"

// netnsFile is where the container's network namespace is mounted, and attachedFile tells
// what plugins have to take back. No container has a name that begins with a dot: what web has
// given to it is no namespace of web.json.
func (r *run) netnsFile() string {
	return filepath.Join(r.opts.Root, "netns", r.daemon.Namespace(), r.opts.Name)
}

func (r *run) attachedFile() string {
	return filepath.Join(filepath.Dir(r.netnsFile()), "."+r.opts.Name+".json")
}

// attached is what is known of a container's network without it, and without the
// configuration of the machine, which may have changed.
type attached struct {
	Config  json.RawMessage `json:"config"`
	BinDirs []string        `json:"binDirs"`
	IPs     []netip.Addr    `json:"ips,omitempty"` // once it has them
}

// write writes it down whole, and to the disk: what plugins have given away outlives a power
// cut, and so must who knows of it.
func (a attached) write(file string) error {
	raw, err := json.Marshal(a)
	if err != nil {
		return err
	}
	part, err := os.OpenFile(file+".part", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = part.Write(raw)
	if err = errors.Join(err, part.Sync(), part.Close()); err == nil {
		err = os.Rename(part.Name(), file)
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// attached reads it; nil if the container has no such network.
func (r *run) attached() (*attached, error) {
	raw, err := os.ReadFile(r.attachedFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	a := new(attached)
	if err == nil {
		err = json.Unmarshal(raw, a)
	}
	return a, err
}

// plugins are those that the configuration names.
func (r *run) plugins() (*libcni.NetworkConfigList, attached, error) {
	conf, bin := r.opts.CNI.ConfDir, r.opts.CNI.BinDirs
	if conf == "" {
		conf = DefaultConfDir
	}
	if len(bin) == 0 {
		bin = []string{DefaultBinDir}
	}
	files, err := libcni.ConfFiles(conf, []string{".conflist"})
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("there is no .conflist: %w", errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		return nil, attached{}, fmt.Errorf("CNI configuration in %s: %w", conf, err)
	}
	slices.Sort(files)
	list, err := libcni.ConfListFromFile(files[0])
	if err != nil {
		return nil, attached{}, fmt.Errorf("CNI configuration %s: %w: %w", files[0], err, errdefs.ErrFailedPrecondition)
	}
	return list, attached{Config: list.Bytes, BinDirs: bin}, nil
}

func (a attached) plugins(root string) *libcni.CNIConfig {
	return libcni.NewCNIConfigWithCacheDir(a.BinDirs, filepath.Join(root, "cni"), nil)
}

// cniID is by what plugins know a container. Neither a namespace nor a name has two dashes
// beside each other, so no two containers have one.
func cniID(namespace, name string) string { return namespace + "--" + name }

func (r *run) runtimeConf() *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: cniID(r.daemon.Namespace(), r.opts.Name), NetNS: r.netnsFile(), IfName: device}
}

// connect makes a network namespace, and has the plugins connect it. What it has made is
// written down before it is made, for disconnect.
func (r *run) connect(ctx context.Context, cp *checkpoint) error {
	list, a, err := r.plugins()
	if err == nil {
		err = os.MkdirAll(filepath.Dir(r.netnsFile()), 0o700)
	}
	if err == nil {
		err = a.write(r.attachedFile())
	}
	if err == nil {
		err = newNetNS(r.netnsFile())
	}
	if err != nil {
		return fmt.Errorf("network of container %s: %w", r.opts.Name, err)
	}
	ctx, done := context.WithTimeoutCause(ctx, r.opts.Timeout, errTimeout)
	defer done()
	added, err := a.plugins(r.opts.Root).AddNetworkList(ctx, list, r.runtimeConf())
	if err != nil {
		return fmt.Errorf("network %s of container %s: %w: %w", list.Name, r.opts.Name, err, errdefs.ErrUnavailable)
	}
	result, err := current.NewResultFromResult(added)
	if err != nil {
		return fmt.Errorf("network %s of container %s: %w", list.Name, r.opts.Name, err)
	}
	for _, ip := range result.IPs {
		if one, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			a.IPs = append(a.IPs, one.Unmap())
		}
	}
	return errors.Join(a.write(r.attachedFile()), addresses(cp.shared.Sockets, a.IPs))
}

// disconnect takes back what connect has done, as far as it came. Of a container that has
// no such network it does nothing.
func (r *run) disconnect(ctx context.Context) error {
	ctx, done := context.WithTimeoutCause(ctx, undoTimeout, errTimeout)
	defer done()
	a, err := r.attached()
	if a == nil && err == nil {
		return nil
	}
	if err == nil {
		err = endPlugins(ctx, cniID(r.daemon.Namespace(), r.opts.Name))
	}
	if err == nil {
		err = r.unplug(ctx, *a)
	}
	if err == nil {
		err = removeNetNS(r.netnsFile())
	}
	if err == nil {
		err = os.Remove(r.attachedFile())
	}
	if err != nil {
		return fmt.Errorf("take back the network of container %s: %w", r.opts.Name, err)
	}
	return nil
}

// unplug has the plugins take back what they gave. A namespace that is gone, with the machine's
// last run or before it was mounted, is told to them by no path at all: by that of a file they
// would fail, and keep name and address taken (CNI 1.1.0, DEL).
func (r *run) unplug(ctx context.Context, a attached) error {
	list, err := libcni.ConfListFromBytes(a.Config)
	if err != nil {
		return err
	}
	conf := r.runtimeConf()
	there, err := isNetNS(conf.NetNS)
	if err != nil {
		return err
	}
	if !there {
		conf.NetNS = ""
	}
	return a.plugins(r.opts.Root).DelNetworkList(ctx, list, conf)
}
