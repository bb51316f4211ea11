package daemonconf_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lithify/lithify/convert/daemonconf"
)

func TestRuntimes(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"config.toml": `version = 2
imports = ["more.toml"]
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun]
runtime_type = "io.containerd.runc.v2"
options = {BinaryName = "/usr/bin/crun", SystemdCgroup = true}
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "runc"
`,
		"more.toml": `version = 3
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = "/opt/runc"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.kata]
runtime_type = "io.containerd.kata.v2"
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := daemonconf.Read(filepath.Join(dir, "config.toml"))
	if err != nil {
		t.Fatal(err)
	}
	want := []daemonconf.Runtime{
		{Name: "crun", Type: "io.containerd.runc.v2", Binary: "/usr/bin/crun"},
		{Name: "kata", Type: "io.containerd.kata.v2"},
		{Name: "runc", Type: "io.containerd.runc.v2", Binary: "/opt/runc"},
	}
	if diff := cmp.Diff(c.Runtimes(), want); diff != "" {
		t.Errorf("got -, want +:\n%s", diff)
	}
}
