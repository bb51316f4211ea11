package daemonconf_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/convert/daemonconf"
)

// file writes a configuration.
func file(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) *daemonconf.Config {
	t.Helper()
	c, err := daemonconf.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// dump is what a containerd makes of a configuration.
func dump(t *testing.T, program, path string) string {
	t.Helper()
	name, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s: test/tools/install.sh builds it", err)
	}
	cmd := exec.CommandContext(t.Context(), name, "--config", path, "config", "dump")
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	return string(out)
}

const (
	oldCNI = `plugins."io.containerd.grpc.v1.cri".cni`
	newCNI = `plugins."io.containerd.cri.v1.runtime".cni`
)

// binDirs are the directories that a containerd looks for CNI's plugins in, by its dump:
// 2.3 has the old key beside the new one, and takes it if it is set.
func binDirs(t *testing.T, dump string) string {
	t.Helper()
	_, cni, ok := strings.Cut(dump, "[plugins.'io.containerd.cri.v1.runtime'.cni]")
	if !ok {
		t.Fatalf("no CNI in:\n%s", dump)
	}
	if old := regexp.MustCompile(`(?m)^ *bin_dir = '(.+)'$`).FindStringSubmatch(cni[:strings.Index(cni, "[plugins")]); old != nil {
		return "['" + old[1] + "']"
	}
	return regexp.MustCompile(`(?m)^ *bin_dirs = (.*)$`).FindStringSubmatch(cni)[1]
}

// TestMigrate has containerd read each file before and after, and patch apply the diff.
func TestMigrate(t *testing.T) {
	const want = "['/usr/lib/cni']"
	for name, text := range map[string]string{
		"version 1":      "version = 1\n[plugins.cri.cni]\n  bin_dir = \"/usr/lib/cni\"\n",
		"no version":     "[plugins.cri.cni]\n  bin_dir = \"/usr/lib/cni\"\n",
		"version 2":      "version = 2\n# ours\n[" + oldCNI + "]\n\tbin_dir = \"/usr/lib/cni\" # of the distribution\n\tmax_conf_num = 2\n",
		"version 3":      "version = 3\n[" + newCNI + "]\nconf_dir = '/x'\nbin_dir = '/usr/lib/cni'",
		"version 3, old": "version = 3\n[" + oldCNI + "]\nbin_dir = \"/usr/lib/cni\"\n",
		"version 4":      "version = 4\n[" + newCNI + "]\r\nbin_dir = \"\"\"/usr/lib/cni\"\"\"\r\nmax_conf_num = 2\r\n",
		"dotted":         "version = 4\n" + newCNI + ".bin_dir = \"/usr/lib/cni\"\n",
		"inline":         "version = 4\n[plugins]\n'io.containerd.cri.v1.runtime' = { cni = { conf_dir = '/x', \"bin_dir\" = '/usr/lib/cni' } }\n",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := file(t, dir, "config.toml", text)
			if got := binDirs(t, dump(t, "containerd23", path)); got != want {
				t.Fatalf("containerd 2.3 takes it for %s", got)
			}
			diff, err := read(t, path).Migrate()
			if err != nil {
				t.Fatal(err)
			}
			apply(t, diff)
			for _, program := range []string{"containerd23", "containerd"} {
				if got := binDirs(t, dump(t, program, path)); got != want {
					t.Errorf("%s takes it for %s then, want %s; the diff was\n%s", program, got, want, diff)
				}
			}
			now, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if back := regexp.MustCompile(`bin_dirs( = )\[(.*cni['"]+)\]`).ReplaceAllString(string(now), `bin_dir$1$2`); back != strings.ReplaceAll(text, `"bin_dir"`, "bin_dir") {
				t.Errorf("more has changed than the key:\n%s\nbefore:\n%s", now, text)
			}
			if diff, err := read(t, path).Migrate(); err != nil || diff != "" {
				t.Errorf("once more: %q, %v; want nothing to do", diff, err)
			}
		})
	}
}

func apply(t *testing.T, diff string) {
	t.Helper()
	name, err := exec.LookPath("patch")
	if err != nil {
		t.Skip(err)
	}
	cmd := exec.CommandContext(t.Context(), name, "--binary", "-p1", "-d", "/")
	cmd.Stdin = strings.NewReader(diff)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("patch: %v: %s\n%s", err, out, diff)
	}
}

func TestMigrateLeaves(t *testing.T) {
	for name, tt := range map[string]struct {
		texts []string
		check func(error) bool
	}{
		"nothing":     {[]string{"version = 4\n"}, nil},
		"done":        {[]string{"version = 4\n[" + newCNI + "]\nbin_dirs = ['/a', '/b']\n"}, nil},
		"of 2.3":      {[]string{"version = 4\n[" + newCNI + "]\nbin_dir = ''\nbin_dirs = ['/a']\n"}, nil},
		"of another":  {[]string{"version = 4\n[plugins.'io.containerd.image-verifier.v1.bindir']\nbin_dir = '/x'\n"}, nil},
		"both":        {[]string{"version = 3\n[" + newCNI + "]\nbin_dir = '/x'\nbin_dirs = ['/a']\n"}, errdefs.IsFailedPrecondition},
		"both places": {[]string{"version = 3\n[" + newCNI + "]\nbin_dirs = ['/a']\n[" + oldCNI + "]\nbin_dir = '/x'\n"}, errdefs.IsFailedPrecondition},
		"two files":   {[]string{"version = 3\nimports = ['1.toml']\n[" + newCNI + "]\nbin_dir = '/x'\n", "version = 3\n[" + newCNI + "]\nbin_dirs = ['/a']\n"}, errdefs.IsFailedPrecondition},
		"no string":   {[]string{"version = 3\n[" + newCNI + "]\nbin_dir = 7\n"}, errdefs.IsInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for i, text := range tt.texts {
				file(t, dir, fmt.Sprintf("%d.toml", i), text)
			}
			diff, err := read(t, filepath.Join(dir, "0.toml")).Migrate()
			if diff != "" || (err == nil) != (tt.check == nil) || err != nil && !tt.check(err) {
				t.Errorf("got %q, %v", diff, err)
			}
		})
	}
}

// plugins is the part of a dump that tells of plugins which another dump has, too.
func plugins(dump, other string) string {
	var b strings.Builder
	ours := false
	for line := range strings.Lines(dump) {
		if table := regexp.MustCompile(`^ *\[+(plugins\.'[^']*')?`).FindStringSubmatch(line); table != nil {
			ours = table[1] != "" && strings.Contains(other, table[1])
		}
		if ours {
			b.WriteString(line)
		}
	}
	return b.String()
}

// TestFindings compares what is said of a key with what containerd 2.4 makes of it: the
// value is nowhere in what it then has if it ignores it, and somewhere if it does not.
func TestFindings(t *testing.T) {
	empty := map[int]string{}
	for version := 2; version <= 4; version++ {
		empty[version] = dump(t, "containerd", file(t, t.TempDir(), "config.toml", fmt.Sprintf("version = %d\n", version)))
	}
	const cri, run, img = `plugins."io.containerd.grpc.v1.cri"`, `plugins."io.containerd.cri.v1.runtime"`, `plugins."io.containerd.cri.v1.images"`
	for _, tt := range []struct {
		key, value string
		ignored    []int // in files of these versions; else it counts
	}{
		{cri + ".cni.bin_dir", "'/value'", []int{4}},
		{run + ".cni.bin_dir", "'/value'", []int{2, 3, 4}},
		{run + ".cni.conf_dir", "'/value'", nil},
		{cri + ".cni.conf_dir", "'/value'", []int{4}},
		{cri + ".sandbox_image", "'value'", []int{4}},
		{cri + ".max_concurrent_downloads", "4711", []int{4}},
		{cri + ".registry.config_path", "'/value'", []int{4}},
		{cri + ".registry.mirrors.'value.io'.endpoint", "['https://value']", []int{4}},
		{img + ".registry.mirrors.'value.io'.endpoint", "['https://value']", nil},
		{cri + ".image_decryption.key_model", "'value'", []int{4}},
		{cri + ".containerd.snapshotter", "'value'", []int{2, 3, 4}},
		{cri + ".containerd", "{ snapshotter = 'value', runtimes = { x = { snapshotter = 'value' } } }", []int{4}},
		{cri + ".containerd.default_runtime_name", "'value'", []int{4}},
		{cri + ".stream_server_port", "'4711'", nil},
		{cri + ".x509_key_pair_streaming.tls_cert_file", "'/value'", nil},
		{cri + ".containerd.runtimes.runc.runtime_root", "'/value'", []int{2, 3, 4}},
		{cri + ".systemd_cgroup", "true", []int{2, 3, 4}},
		{run + ".enable_cdi", "true", []int{2, 3, 4}},
		{"plugins.'io.containerd.tracing.processor.v1.otlp'.endpoint", "'value'", []int{2, 3, 4}},
		{"plugins.'io.containerd.internal.v1.tracing'.service_name", "'value'", []int{2, 3, 4}},
		{"plugins.'io.containerd.internal.v1.restart'.interval", "'4711s'", []int{4}},
		{"plugins.'io.containerd.monitor.v1.cgroups'.no_prometheus", "true", []int{4}},
		{"plugins.'io.containerd.runtime.v2.task'.sched_core", "true", []int{2, 4}},
		{"grpc.address", "'/value'", []int{4}},
		{"grpc.tcp_address", "'value:1'", []int{4}},
		{"ttrpc.address", "'/value'", []int{4}},
		{"debug.address", "'/value'", []int{4}},
		{"metrics.address", "'value:1'", []int{4}},
		{"metrics.grpc_histogram", "true", []int{4}},
	} {
		for version := 2; version <= 4; version++ {
			t.Run(fmt.Sprint(tt.key, version), func(t *testing.T) {
				head := fmt.Sprintf("version = %d\n", version)
				path := file(t, t.TempDir(), "config.toml", head+tt.key+" = "+tt.value+"\n")
				var states []daemonconf.State
				for _, f := range read(t, path).Findings() {
					states = append(states, f.State)
					if f.Line != 2 || f.File != path || !strings.HasPrefix(tt.key, strings.SplitN(f.Key, ".", 2)[0]) {
						t.Errorf("it stands in line 2 of %s: %v", path, f)
					}
				}
				if got, want := slices.Contains(states, daemonconf.Ignored), slices.Contains(tt.ignored, version); got != want {
					t.Errorf("states %q, want that it is ignored: %v", states, want)
				}
				plain := empty[version]
				with := plugins(dump(t, "containerd", path), plain)
				plain = plugins(plain, plain)
				if (with != plain) == slices.Contains(tt.ignored, version) {
					t.Errorf("containerd has other plugins with it: %v", with != plain)
				}
			})
		}
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	path := file(t, dir, "config.toml", "version = 3\nimports = ['conf.d/*.toml', '"+dir+"/conf.d/b.toml']\n[debug]\nlevel = 'info'\n")
	file(t, dir, "conf.d/a.toml", "version = 2\n[plugins]\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n    sandbox_image = 'x' # moved\n    systemd_cgroup = false\n")
	file(t, dir, "conf.d/b.toml", "imports = ['../config.toml']\nversion = 4\n\n[grpc]\naddress = '/x'\n")
	c := read(t, path)
	var got []string
	for _, f := range c.Files {
		got = append(got, fmt.Sprint(strings.TrimPrefix(f.Path, dir+"/"), " ", f.Version))
	}
	if want := []string{"config.toml 3", "conf.d/a.toml 2", "conf.d/b.toml 4"}; !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
	got = nil
	for _, f := range c.Findings() {
		got = append(got, strings.TrimPrefix(f.String(), dir+"/"))
	}
	if want := []string{
		`conf.d/a.toml:4: plugins."io.containerd.grpc.v1.cri".sandbox_image is moved: to plugins."io.containerd.cri.v1.images".pinned_images sandbox`,
		`conf.d/b.toml:5: grpc.address is ignored: version 4 has it elsewhere; use plugins."io.containerd.server.v1.grpc"`,
	}; !slices.Equal(got, want) {
		t.Errorf("findings\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A number is what TOML calls one, as containerd takes it.
func TestVersion(t *testing.T) {
	for text, want := range map[string]int{"": 0, "version = 3": 3, "version = 0x3": 3, "version = +4 # ours": 4} {
		c, err := daemonconf.Read(file(t, t.TempDir(), "config.toml", text))
		if err != nil || c.Files[0].Version != want {
			t.Errorf("%q: %+v, %v, want version %d", text, c, err, want)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"no TOML":      {"version = 3\n[plugins\n", "config.toml:2: "},
		"cut string":   {"version = 3\n\nroot = 'x\n", "config.toml:3: "},
		"words":        {"version = 'three'\n", `config.toml:1: version "three" is no whole number`},
		"quotes":       {"version = '3'\n", `config.toml:1: version "3" is no whole number: write version = 4, without quotes`},
		"a fraction":   {"version = 3.5\n", `config.toml:1: version "3.5" is no whole number`},
		"import":       {"imports = ['none.toml']\n", "none.toml: no such file"},
		"import of no": {"imports = ['[*']\n", "imports"},
		"too large":    {strings.Repeat("#\n", 3<<20), "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := daemonconf.Read(file(t, t.TempDir(), "config.toml", tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func FuzzMigrate(f *testing.F) {
	f.Add("version = 3\n[" + newCNI + "]\nbin_dir = '/x'\n")
	f.Add("plugins = { cri = { cni = { bin_dir = \"\"\"\n/x\"\"\" } } }")
	f.Fuzz(func(t *testing.T, text string) {
		path := file(t, t.TempDir(), "config.toml", strings.ReplaceAll(text, "imports", "import"))
		c, err := daemonconf.Read(path)
		if err != nil {
			return
		}
		c.Findings()
		c.Migrate()
	})
}
