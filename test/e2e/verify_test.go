//go:build linux

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/lithify/lithify/convert/preflight"
	"github.com/lithify/lithify/convert/verify"
)

// TestVerify has the command line verify what it has converted, and what somebody has
// made to look so.
func TestVerify(t *testing.T) {
	needRoot(t)
	if testing.Short() {
		t.Skip("unpacks Debian twice: long lane")
	}
	registry := startRegistry(t)
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	one, two := registry+"/verify:1", registry+"/verify:2"
	push(t, debian(t, 1), one)
	push(t, debian(t, 2), two)
	alone := convert(t, one, registry+"/verify:1-erofs", "--replace")
	both := convert(t, two, registry+"/verify:2-erofs", "--profile", "erofs+zstd")

	var got verify.Result
	if err := json.Unmarshal([]byte(output(t, lithify(t), "verify", "--unpack", "-o", "json", both)), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Variants) != 1 || len(got.Variants[0].Differences) > 0 || got.Variants[0].Files < 3000 {
		t.Errorf("verified: %+v", got)
	}
	if said := output(t, lithify(t), "verify", "--unpack", "--source", one, alone); !strings.HasSuffix(said, " files, same\n") {
		t.Errorf("it says %q", said)
	}

	if said := output(t, lithify(t), "verify", "--reproduce", both); !strings.HasSuffix(said, " 2 layers made again, same\n") {
		t.Errorf("it says %q", said)
	}

	forged := registry + "/verify:forged"
	of := strings.TrimSpace(output(t, need(t, "crane"), "digest", "--insecure", two))
	output(t, need(t, "crane"), "mutate", "--insecure", "--annotation", "io.github.lithify.source="+of, "-t", forged, alone)
	for _, by := range []string{"--unpack", "--reproduce"} {
		code, said := exit(t, lithify(t), "verify", by, "--source", two, forged)
		if code != 3 || !strings.Contains(said, "is not what it was made from") {
			t.Errorf("forged, %s: exit code %d, %s", by, code, tail(said))
		}
	}
	if code, said := exit(t, lithify(t), "verify", "--unpack", two); code != 3 || !strings.Contains(said, "no variant") {
		t.Errorf("without a variant: exit code %d, %s", code, tail(said))
	}
	if code, said := exit(t, lithify(t), "verify", both); code != 2 {
		t.Errorf("without --unpack: exit code %d, %s", code, said)
	}
	if left, err := filepath.Glob(filepath.Join(temp, "lithify-*")); err != nil || len(left) > 0 {
		t.Errorf("left are %q, %v", left, err)
	}
}

// report is what lithify doctor -o json prints.
type report struct {
	For   string
	Ready bool
	Facts []preflight.Fact
}

func (r report) fact(t *testing.T, name string) preflight.Fact {
	t.Helper()
	i := slices.IndexFunc(r.Facts, func(f preflight.Fact) bool { return f.Name == name })
	if i < 0 {
		t.Fatalf("no fact %s among %+v", name, r.Facts)
	}
	return r.Facts[i]
}

// diagnose runs the doctor. It ends well if and only if all is there.
func diagnose(t *testing.T, as *syscall.Credential, args ...string) (r report) {
	t.Helper()
	cmd := command(t, lithify(t), append([]string{"doctor", "-o", "json"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	out, err := cmd.Output()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if jerr := json.Unmarshal(out, &r); jerr != nil || r.Ready != (err == nil) {
		t.Fatalf("doctor %v: %v, %v: %s", args, err, jerr, out)
	}
	return r
}

// TestDoctor asks a containerd, one of which a plugin is broken, and none.
func TestDoctor(t *testing.T) {
	d := startContainerd(t)
	r := diagnose(t, nil, "--for", "commit", "--containerd", d.address)
	version := strings.Fields(output(t, need(t, "containerd"), "--version"))[2]
	if f := r.fact(t, "containerd"); !r.Ready || f.Found != version {
		t.Errorf("ready %v, %+v, want %s", r.Ready, f, version)
	}
	if f := r.fact(t, "containerd-plugins"); !f.OK {
		t.Errorf("%+v", f)
	}
	if f, want := r.fact(t, "containerd-config"), filepath.Join(filepath.Dir(d.address), "config.toml"); !f.OK || f.Found != want+", version 4" {
		t.Errorf("%+v, want what it was started with: %s", f, want)
	}
	if first, warned := r.fact(t, "cgroup").Found == "version 1", r.fact(t, "containerd-deprecations"); first == warned.OK || first && !strings.Contains(warned.Found, "cgroup") {
		t.Errorf("%+v, %+v", r.fact(t, "cgroup"), warned)
	}

	if !r.fact(t, "dm-verity").OK {
		// On this machine containerd cannot have what this asks for.
		broken := launchContainerd(t, "\n[plugins.\"io.containerd.snapshotter.v1.erofs\"]\n  dmverity_mode = \"on\"\n")
		await(t, "containerd", func(context.Context) error {
			_, err := try(t, need(t, "ctr"), "--address", broken.address, "version")
			return err
		})
		if f := diagnose(t, nil, "--containerd", broken.address).fact(t, "containerd-plugins"); f.OK || !strings.Contains(f.Found, "snapshotter.v1.erofs") {
			t.Errorf("a broken snapshotter: %+v", f)
		}
	}

	r = diagnose(t, nil, "--for", "commit", "--containerd", d.address+".none")
	if f := r.fact(t, "containerd"); r.Ready || f.OK || f.Do == "" {
		t.Errorf("without containerd: ready %v, %+v", r.Ready, f)
	}
}

// TestDoctorOfUser: who is not root converts, and hears what to do for the rest.
func TestDoctorOfUser(t *testing.T) {
	needRoot(t)
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir, filepath.Dir(lithify(t))} {
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if r := diagnose(t, nobody, "--dir", dir); !r.Ready {
		t.Errorf("nobody cannot convert: %+v", r.Facts)
	}
	r := diagnose(t, nobody, "--dir", dir, "--for", "verify")
	if f := r.fact(t, "erofs"); r.Ready || f.OK || !strings.HasPrefix(f.Do, "run it as root") {
		t.Errorf("ready %v, %+v", r.Ready, f)
	}
	root := diagnose(t, nil, "--dir", dir, "--for", "verify")
	if !root.Ready {
		t.Errorf("root: %+v", root.Facts)
	}
}

// TestWorkerChecksHost: a worker says what its machine can do when it starts, once.
func TestWorkerChecksHost(t *testing.T) {
	p := startPool(t, 0)
	w, _ := p.worker(t, "checked")
	w.says(t, "facts", func(line string) (string, bool) {
		return line, strings.Contains(line, "host checked") && strings.Contains(line, "temp")
	})
	w.stop(t)
	if n := strings.Count(w.said(), "host checked"); n != 1 {
		t.Errorf("said %d times", n)
	}
}
