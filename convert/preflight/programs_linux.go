package preflight

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/libcni"
	"golang.org/x/sys/unix"
)

// nearDaemon are the probes of what a containerd's runtime and lithify find on its machine.
var nearDaemon = []probe{{
	name: "containerd-criu", use: "the runtime finds CRIU in containerd's PATH, not in yours", required: ofProcesses,
	remedy: "put CRIU 3.16 or later into the PATH that containerd is started with, and start it anew", try: asking(criuOf),
}}

// cni is the probe of a machine's CNI plugins.
var cni = probe{
	name: "cni", use: "restored containers have a network of the machine's, by --network cni; none and host need no plugins",
	remedy: "put the plugins into --cni-bin-dir, and a .conflist that names them into --cni-conf-dir", try: tryCNI,
}

// processOf is the directory of a containerd's process in /proc. Where it cannot be seen it is
// an errdefs.ErrNotFound.
func processOf(ctx context.Context, c *client.Client) (string, error) {
	server, err := c.IntrospectionService().Server(ctx)
	if err != nil {
		return "", err
	}
	var ns unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &ns); err != nil || ns.Ino != server.Pidns {
		return "", errors.Join(err, fmt.Errorf("containerd's process is in another PID namespace: %w", errdefs.ErrNotFound))
	}
	return fmt.Sprintf("/proc/%d", server.Pid), nil
}

func criuOf(ctx context.Context, c *client.Client) (string, error) {
	proc, err := processOf(ctx, c)
	if errdefs.IsNotFound(err) {
		return "not known: " + err.Error(), nil
	}
	if err != nil {
		return "", err
	}
	env, err := os.ReadFile(filepath.Join(proc, "environ"))
	if err != nil {
		return "", err
	}
	root := filepath.Join(proc, "root")
	if same, err := sameFile(root, "/"); err != nil || !same { // its programs would not run here
		return "not known: containerd has another root directory", err
	}
	found, err := criuIn(ctx, root, variable(env, "PATH"))
	if err == nil && variable(env, faultVariable) != withoutBreakpoints {
		err = needless(Breakpoints())
	}
	return found, err
}

// CRIU's variable, and its value, that has CRIU do without breakpoints (criu/include/fault-injection.h).
const (
	faultVariable      = "CRIU_FAULT"
	withoutBreakpoints = "130"
)

// needless says of breakpoints that do not work what to do.
func needless(err error) error {
	if err == nil || errdefs.IsNotImplemented(err) {
		return nil
	}
	return fmt.Errorf("CRIU would wait for ever: %w; start containerd with %s=%s in its environment", err, faultVariable, withoutBreakpoints)
}

// variable is that of an environment as /proc has it, empty where there is none.
func variable(env []byte, name string) string {
	for v := range strings.SplitSeq(string(env), "\x00") {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

func sameFile(a, b string) (bool, error) {
	one, err := os.Stat(a)
	if err != nil {
		return false, err
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other), err
}

// criuIn looks for CRIU as the runtime does, among the mounts that it has.
func criuIn(ctx context.Context, root, dirs string) (string, error) {
	for _, dir := range filepath.SplitList(dirs) {
		path := filepath.Join(root, dir, "criu")
		info, err := os.Stat(path)
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			continue
		}
		version, err := versionOf(ctx, path)
		if err != nil {
			return "", err
		}
		if before(version, 3, 16) {
			return "", fmt.Errorf("%s/criu: version %s is too old", dir, version)
		}
		return fmt.Sprintf("%s, %s/criu", version, dir), nil
	}
	return "", fmt.Errorf("there is no criu in containerd's PATH, %q", dirs)
}

// tryCNI has each plugin of the network that a restored container would be in say which
// versions it knows.
func tryCNI(ctx context.Context, o Options) (string, error) {
	files, err := libcni.ConfFiles(o.CNIConf, []string{".conflist"})
	if err != nil {
		return "", err
	}
	if len(files) == 0 {
		return "", fmt.Errorf("no .conflist in %s", o.CNIConf)
	}
	list, err := libcni.ConfListFromFile(files[0])
	if err != nil {
		return "", fmt.Errorf("%s: %w", files[0], err)
	}
	var types []string
	for _, p := range list.Plugins {
		types = append(types, p.Network.Type)
	}
	found := fmt.Sprintf("%s: network %s by %s", files[0], list.Name, strings.Join(types, ", "))
	if _, err := libcni.NewCNIConfig(o.CNIBins, nil).ValidateNetworkList(ctx, list); err != nil {
		return "", fmt.Errorf("%s: %w", found, err)
	}
	return found, nil
}
