package preflight_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/convert/preflight"
)

// daemon is a containerd that a test has configured.
type daemon struct {
	program  string // default containerd
	dir      string // of its root; default one of the test's
	disabled []string
	config   string // and what is added to its configuration
	path     string // default this process's
}

// start waits until it answers.
func (d daemon) start(t *testing.T) (address string) {
	t.Helper()
	if !*rootFlag || os.Getuid() != 0 {
		t.Skip("starts containerd: run as root with -test.root")
	}
	if d.program == "" {
		d.program = "containerd"
	}
	for _, name := range []string{d.program, "ctr", "containerd-shim-runc-v2", "runc", "criu"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("no %s: run test/tools/install.sh", name)
		}
	}
	if d.dir == "" {
		var err error
		if d.dir, err = os.MkdirTemp("/var/tmp", "lithify"); err != nil { // a socket's path has at most 107 bytes
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(d.dir) })
	}
	address = filepath.Join(d.dir, "s")
	version, listens := 4, "[plugins.'io.containerd.server.v1.grpc']\naddress = '%[1]s'\n[plugins.'io.containerd.server.v1.ttrpc']\naddress = '%[1]s.ttrpc'\n[plugins.'io.containerd.server.v1.debug']\naddress = ''\n"
	if d.program == "containerd23" {
		version, listens = 3, "[grpc]\naddress = '%[1]s'\n[ttrpc]\naddress = '%[1]s.ttrpc'\n"
	}
	file := filepath.Join(d.dir, "config.toml")
	var disabled []string
	for _, name := range d.disabled {
		disabled = append(disabled, "'"+name+"'")
	}
	config := fmt.Sprintf("version = %d\nroot = '%s/root'\nstate = '%s/state'\ndisabled_plugins = [%s]\n", version, d.dir, d.dir, strings.Join(disabled, ", ")) +
		fmt.Sprintf(listens, address) + d.config
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	program, _ := exec.LookPath(d.program)
	cmd := exec.Command(program, "--config", file)
	cmd.Env = append(os.Environ(), "PATH="+d.path)
	if d.path == "" {
		cmd.Env = os.Environ()
	}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		_, err := preflight.Plugins(t.Context(), address)
		if err == nil {
			return address
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

var withoutCRI = []string{"io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri", "io.containerd.podsandbox.controller.v1.podsandbox"}

// TestContainerd asks daemons of two versions, of which one has no CRI, and compares what they
// say of their plugins with what ctr makes of it.
func TestContainerd(t *testing.T) {
	for _, tt := range []struct {
		daemon
		version string
		cri     preflight.State
	}{
		{daemon{disabled: withoutCRI}, "2.4.", preflight.Absent},
		{daemon{program: "containerd23"}, "2.3.", preflight.Loaded},
	} {
		t.Run(tt.version, func(t *testing.T) {
			t.Setenv("CRIU_FAULT", "130") // as whoever runs containerd on a machine without breakpoints does
			address := tt.start(t)
			o := preflight.Options{Dir: t.TempDir(), Containerd: address}
			facts := check(t, o)
			for name, want := range map[string]string{"containerd": tt.version, "containerd-plugins": " ok, ", "containerd-runtime": "runc 1.", "containerd-criu": "/criu"} {
				if f := facts[name]; !f.OK || !strings.Contains(f.Found, want) {
					t.Errorf("%s is %+v, want %q", name, f, want)
				}
			}
			if !strings.HasPrefix(facts["containerd-runtime"].Found, "shim io.containerd.runc.v2 2.4.") {
				t.Errorf("the shim is %q", facts["containerd-runtime"].Found)
			}
			all, err := preflight.Plugins(t.Context(), address)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range all {
				switch {
				case p.Name() == "io.containerd.grpc.v1.cri" && (p.State != tt.cri || len(p.Required) > 0):
					t.Errorf("CRI is %+v, want %s and that nothing requires it", p, tt.cri)
				case p.Name() != "io.containerd.grpc.v1.cri" && p.For != "" && p.State != preflight.Loaded:
					t.Errorf("lithify has something of %+v", p)
				case p.State == preflight.Failed && p.Reason == "" || strings.Contains(p.Reason, "skip plugin"):
					t.Errorf("%+v, and nobody says why", p)
				}
			}
			agree(t, address, all)
		})
	}
}

// agree compares with what ctr prints.
func agree(t *testing.T, address string, all []preflight.Plugin) {
	t.Helper()
	out, err := exec.Command("ctr", "--address", address, "plugins", "ls").Output()
	if err != nil {
		t.Fatal(err)
	}
	states := map[string]preflight.State{"ok": preflight.Loaded, "skip": preflight.Skipped, "error": preflight.Failed}
	compared := map[preflight.State]int{}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		want, known := states[f[len(f)-1]]
		if !known {
			continue // it is the heading
		}
		if !slices.ContainsFunc(all, func(p preflight.Plugin) bool { return p.Type == f[0] && p.ID == f[1] && p.State == want }) {
			t.Errorf("ctr says of %s.%s that it is %s", f[0], f[1], want)
		}
		compared[want]++
	}
	if compared[preflight.Loaded] < 20 || compared[preflight.Skipped] == 0 {
		t.Errorf("ctr named %v", compared)
	}
}

// TestPluginsMissing has verbs want plugins that are disabled, or that have failed.
func TestPluginsMissing(t *testing.T) {
	for name, tt := range map[string]struct {
		disabled []string
		plugin   string
		verbs    map[string]bool
	}{
		"overlayfs": {[]string{"io.containerd.snapshotter.v1.overlayfs"}, "io.containerd.snapshotter.v1.overlayfs", map[string]bool{"restore": false, "commit": true, "convert": true}},
		"tasks":     {[]string{"io.containerd.grpc.v1.tasks"}, "io.containerd.grpc.v1.tasks", map[string]bool{"restore": false, "commit": false, "convert": true}},
	} {
		t.Run(name, func(t *testing.T) {
			address := daemon{disabled: append(tt.disabled, withoutCRI...)}.start(t)
			wants(t, address, "absent: disabled_plugins", tt.plugin, tt.verbs)
		})
	}
	t.Run("failed", func(t *testing.T) {
		// containerd's EROFS snapshotter asks for fs-verity, which a tmpfs has on no kernel, and
		// what has metadata of all snapshotters goes with it.
		dir, err := os.MkdirTemp("/dev/shm", "lithify")
		if err != nil {
			t.Skip(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		address := daemon{dir: dir, disabled: withoutCRI, config: "[plugins.'io.containerd.snapshotter.v1.erofs']\nenable_fsverity = true\n"}.start(t)
		wants(t, address, "error: ", "io.containerd.grpc.v1.images", map[string]bool{"restore": false, "commit": false, "convert": true})
		if f := check(t, preflight.Options{Dir: t.TempDir(), Containerd: address})["containerd-plugins"]; f.OK || !strings.Contains(f.Found, "io.containerd.snapshotter.v1.erofs: ") {
			t.Errorf("containerd-plugins is %+v, want the EROFS snapshotter", f)
		}
	})
}

// wants says which verbs go without a plugin.
func wants(t *testing.T, address, found, plugin string, verbs map[string]bool) {
	t.Helper()
	facts := preflight.Check(t.Context(), preflight.Options{Dir: t.TempDir(), Containerd: address})
	i := slices.IndexFunc(facts, func(f preflight.Fact) bool { return f.Name == plugin })
	if i < 0 || facts[i].OK || !strings.HasPrefix(facts[i].Found, found) {
		t.Fatalf("%d: %+v; want %s: %s", i, facts[max(i, 0)], plugin, found)
	}
	for verb, ready := range verbs {
		err := preflight.Ready(facts, verb)
		if missing := err != nil && strings.Contains(err.Error(), plugin); missing == ready || err != nil && !errdefs.IsFailedPrecondition(err) {
			t.Errorf("%s: %v, want that it goes without %s: %v", verb, err, plugin, ready)
		}
	}
}

// TestRuntimes has containerd find programs of a certain kind. None of them is in this process's
// PATH.
func TestRuntimes(t *testing.T) {
	shim, err := exec.LookPath("containerd-shim-runc-v2")
	if err != nil {
		t.Skip("no containerd-shim-runc-v2: run test/tools/install.sh")
	}
	features := func(annotations string) string {
		return "[ \"$1\" = features ] && echo '{\"ociVersionMin\":\"1.0.0\",\"ociVersionMax\":\"1.2.1\",\"annotations\":{" + annotations + "}}'"
	}
	for name, tt := range map[string]struct {
		runc, criu string // scripts
		fact, want string
	}{
		"no runc":         {"", "echo Version: 4.1", "containerd-runtime", "failed to look up the path of"},
		"no features":     {"exit 1", "echo Version: 4.1", "containerd-runtime", "says nothing of checkpoints"},
		"no checkpoints":  {features(`"org.opencontainers.runc.version":"1.9.9","org.opencontainers.runc.checkpoint.enabled":"false"`), "echo Version: 4.1", "containerd-runtime", "runc 1.9.9: built without checkpoints"},
		"crun without":    {features(`"run.oci.crun.version":"1.99"`), "echo Version: 4.1", "containerd-runtime", "crun 1.99: built without checkpoints"},
		"no criu":         {features(""), "", "containerd-criu", "there is no criu in"},
		"old criu":        {features(""), "echo Version: 3.15", "containerd-criu", "version 3.15 is too old"},
		"one that is CRI": {features(""), "echo Version: 4.1", "containerd-runtime-odd", `shim of io.containerd.odd.v1`},
	} {
		t.Run(name, func(t *testing.T) {
			bin := t.TempDir()
			if err := os.Symlink(shim, filepath.Join(bin, "containerd-shim-runc-v2")); err != nil {
				t.Fatal(err)
			}
			for program, script := range map[string]string{"runc": tt.runc, "criu": tt.criu} {
				if script == "" {
					continue
				}
				if err := os.WriteFile(filepath.Join(bin, program), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			address := daemon{disabled: withoutCRI, path: bin, config: "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.odd]\nruntime_type = 'io.containerd.odd.v1'\n"}.start(t)
			facts := preflight.Check(t.Context(), preflight.Options{Dir: t.TempDir(), Containerd: address})
			i := slices.IndexFunc(facts, func(f preflight.Fact) bool { return f.Name == tt.fact })
			if i < 0 || facts[i].OK || !strings.Contains(facts[i].Found, tt.want) || facts[i].Do == "" {
				t.Fatalf("%d: %+v; want that %s is missing: %q", i, facts[max(i, 0)], tt.fact, tt.want)
			}
			if err := preflight.Ready(facts, "restore"); tt.fact != "containerd-runtime-odd" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("restore: %v, want %q", err, tt.want)
			}
		})
	}
}

// TestCNI has networks whose plugins are there, are not, or are too old.
func TestCNI(t *testing.T) {
	conf, bin := t.TempDir(), t.TempDir()
	cni := func() preflight.Fact {
		t.Helper()
		return check(t, preflight.Options{Dir: t.TempDir(), CNIConf: conf, CNIBins: []string{bin}})["cni"]
	}
	if f := cni(); f.OK || !strings.Contains(f.Found, "no .conflist in "+conf) {
		t.Errorf("without a network: %+v", f)
	}
	network := `{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"wire"}]}`
	if err := os.WriteFile(filepath.Join(conf, "10-pods.conflist"), []byte(network), 0o600); err != nil {
		t.Fatal(err)
	}
	if f := cni(); f.OK || !strings.Contains(f.Found, `"wire"`) {
		t.Errorf("without its plugin: %+v", f)
	}
	for versions, good := range map[string]bool{`"0.3.1"`: false, `"0.4.0","1.0.0"`: true} {
		script := "#!/bin/sh\n[ $CNI_COMMAND = VERSION ] && echo '{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[" + versions + "]}'\n"
		if err := os.WriteFile(filepath.Join(bin, "wire"), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		if f := cni(); f.OK != good || len(f.Required) > 0 {
			t.Errorf("a plugin of %s: %+v, want %v", versions, f, good)
		}
	}
}
