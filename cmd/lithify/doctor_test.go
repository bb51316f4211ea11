package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDoctorConfig reads a configuration of containerd, for people, programs and patch.
func TestDoctorConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(file, []byte("version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"x\"\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"/x\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		want []string
		code int
	}{
		{nil, []string{file + ": version 2: ", "  keys that are migrated each time: 1;", "  line 5: plugins.\"io.containerd.grpc.v1.cri\".cni.bin_dir is deprecated: since containerd 2.1"}, 0},
		{[]string{"-o", "json"}, []string{`"path": "` + file + `"`, `"version": 2`, `"state": "moved"`, `"line": 3`}, 0},
		{[]string{"--migrate"}, []string{"--- a" + file + "\n+++ b" + file + "\n@@ ", "\n-bin_dir = \"/x\"\n+bin_dirs = [\"/x\"]\n"}, 0},
		{[]string{"--containerd-config", file + ".none"}, nil, 4},
	} {
		var stdout, stderr bytes.Buffer
		args := append([]string{"doctor", "--containerd-config", file, "--containerd", file + ".sock"}, tt.args...)
		if code := execute(t.Context(), args, &stdout, &stderr); code != tt.code {
			t.Errorf("%q: exit code %d, want %d: %s", args, code, tt.code, stderr.String())
		}
		for _, want := range tt.want {
			if !strings.Contains(stdout.String(), want) {
				t.Errorf("%q: printed\n%s\nwithout %q", args, stdout.String(), want)
			}
		}
	}
	if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), "bin_dir = ") {
		t.Errorf("the file was touched: %v\n%s", err, text)
	}
}
