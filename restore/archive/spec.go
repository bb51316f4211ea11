package archive

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Derived is all that the spec in an archive is good for: to show what the container was,
// and to see whether another can be like it.
type Derived struct {
	Args     []string // of the container's first process; it is not started again
	Cwd      string
	EnvNames []string // values may be secrets; they are in memory anyway
	Hostname string
	Terminal bool
	// Namespaces are the kinds of those that the container had to itself. CRIU puts
	// processes back into the kinds that they were dumped in.
	Namespaces []string
	// Mounts are where something was mounted that was not the container's own. CRIU
	// looks for something at each of these places.
	Mounts []Mount
}

// Mount is a place in a container.
type Mount struct {
	Destination string
	Type        string // proc, tmpfs, bind, ...
	// Host says that it was of the machine. What it was there is not told: an archive
	// that says /etc/shadow gets nothing.
	Host bool
}

// Derive takes out of a spec what a restore may know of it. Everything else is ignored:
// hooks, devices, annotations (with CDI's, by which CVE-2026-53492 had devices injected,
// and org.criu.config), sources and options of mounts, capabilities, seccomp, AppArmor and
// SELinux, users, rlimits, sysctls, resources, control groups' paths, paths of namespaces,
// masked and read-only paths, the root, values of the environment. The spec of a restored
// container has to come from whoever restores it.
func Derive(spec []byte) (*Derived, error) {
	var s specs.Spec
	if err := json.Unmarshal(spec, &s); err != nil {
		return nil, &EntryError{specFile, "it is no JSON of an OCI spec; make the checkpoint anew", err}
	}
	d := &Derived{Hostname: s.Hostname}
	if p := s.Process; p != nil {
		d.Args, d.Cwd, d.Terminal = p.Args, p.Cwd, p.Terminal
		for _, e := range p.Env {
			name, _, _ := strings.Cut(e, "=")
			d.EnvNames = append(d.EnvNames, name)
		}
	}
	if s.Linux != nil {
		for _, ns := range s.Linux.Namespaces {
			d.Namespaces = append(d.Namespaces, string(ns.Type))
		}
	}
	for _, m := range s.Mounts {
		host := m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
		d.Mounts = append(d.Mounts, Mount{m.Destination, m.Type, host})
	}
	return d, nil
}
