package daemonconf

import (
	"slices"
	"strings"
)

// Runtime is one that CRI has by a name.
type Runtime struct {
	Name   string
	Type   string // as io.containerd.runc.v2; empty: containerd's default
	Binary string // of the OCI runtime; empty: the shim's default
}

// Runtimes are those of CRI in all files, where a later one has the last word, in the order
// of their names.
func (c *Config) Runtimes() (all []Runtime) {
	for _, f := range c.Files {
		for _, k := range f.keys {
			name, key, ok := runtimeKey(k.path)
			if !ok {
				continue
			}
			i := slices.IndexFunc(all, func(r Runtime) bool { return r.Name == name })
			if i < 0 {
				i, all = len(all), append(all, Runtime{Name: name})
			}
			switch key {
			case "runtime_type":
				all[i].Type = k.text
			case "options.BinaryName":
				all[i].Binary = k.text
			}
		}
	}
	slices.SortFunc(all, func(a, b Runtime) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// runtimeKey takes plugins."io.containerd.cri.v1.runtime".containerd.runtimes.NAME.KEY apart,
// and what version 2 has for it.
func runtimeKey(path []string) (name, key string, ok bool) {
	if len(path) < 6 || path[0] != "plugins" || path[1] != "io.containerd.cri.v1.runtime" && path[1] != "io.containerd.grpc.v1.cri" ||
		path[2] != "containerd" || path[3] != "runtimes" {
		return "", "", false
	}
	return path[4], strings.Join(path[5:], "."), true
}
