package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// TestUnits has systemd read the units. The programs are not installed here, so
// that ExecStart names something that is.
func TestUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze")
	}
	units, err := filepath.Glob("../deploy/systemd/*.service")
	if err != nil || len(units) == 0 {
		t.Fatalf("no units: %v", err)
	}
	for _, unit := range units {
		t.Run(filepath.Base(unit), func(t *testing.T) {
			text, err := os.ReadFile(unit)
			if err != nil {
				t.Fatal(err)
			}
			name := strings.TrimSuffix(filepath.Base(unit), ".service")
			here := strings.Replace(string(text), "ExecStart=/usr/bin/"+name+" ", "ExecStart=/bin/true ", 1)
			if here == string(text) {
				t.Errorf("ExecStart does not name /usr/bin/%s", name)
			}
			installed := filepath.Join(t.TempDir(), filepath.Base(unit))
			if err := os.WriteFile(installed, []byte(here), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", installed).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("systemd-analyze verify: %v\n%s", err, out)
			}
		})
	}
}

// TestHostProcess reads the DaemonSet for Windows: what Kubernetes demands of HostProcess
// pods, and that lithify-worker has the flags.
func TestHostProcess(t *testing.T) {
	text, err := os.ReadFile("../deploy/windows/daemonset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var set struct {
		Kind string
		Spec struct {
			Selector struct {
				MatchLabels map[string]string `yaml:"matchLabels"`
			}
			Template struct {
				Metadata struct{ Labels map[string]string }
				Spec     struct {
					NodeSelector    map[string]string `yaml:"nodeSelector"`
					HostNetwork     bool              `yaml:"hostNetwork"`
					SecurityContext struct {
						WindowsOptions struct {
							HostProcess   bool   `yaml:"hostProcess"`
							RunAsUserName string `yaml:"runAsUserName"`
						} `yaml:"windowsOptions"`
					} `yaml:"securityContext"`
					Containers []struct {
						Args         []string
						VolumeMounts []struct{ Name string } `yaml:"volumeMounts"`
					}
					Volumes []struct{ Name string }
				}
			}
		}
	}
	if err := yaml.Unmarshal(text, &set); err != nil {
		t.Fatal(err)
	}
	pod := set.Spec.Template.Spec
	if o := pod.SecurityContext.WindowsOptions; set.Kind != "DaemonSet" || !o.HostProcess || !pod.HostNetwork || o.RunAsUserName == "" || pod.NodeSelector["kubernetes.io/os"] != "windows" {
		t.Errorf("no HostProcess pods: %+v", pod)
	}
	if diff := cmp.Diff(set.Spec.Selector.MatchLabels, set.Spec.Template.Metadata.Labels); diff != "" {
		t.Errorf("selector and labels differ: %s", diff)
	}
	if len(pod.Containers) != 1 {
		t.Fatalf("%d containers", len(pod.Containers))
	}
	if diff := cmp.Diff(pod.Containers[0].VolumeMounts, pod.Volumes); diff != "" {
		t.Errorf("mounts and volumes differ: %s", diff)
	}
	args := append([]string{"run", "../cmd/worker"}, pod.Containers[0].Args...)
	if out, err := exec.CommandContext(t.Context(), "go", append(args, "--help")...).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
