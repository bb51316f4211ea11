package archive_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/lithify/lithify/restore/archive"
)

// TestHostile changes the images of a container, and shows what CRIU 4.1.1 lets each change do
// to the machine, and that it is refused here. One that CRIU refuses itself some day fails.
func TestHostile(t *testing.T) {
	c := newBundle(t)
	secret := filepath.Join(c.dir, "of-the-machine")
	if err := os.MkdirAll(filepath.Join(secret, "below"), 0o755); err != nil {
		t.Fatal(err)
	}
	victim := filepath.Join(secret, "below", "victim")
	if err := os.WriteFile(victim, []byte("as it was"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(c.dir, "rootfs", "link")); err != nil {
		t.Fatal(err)
	}
	long := time.Unix(1e9, 0)     // ago
	const shown = "/sys/firmware" // a directory that is hidden
	showsSecret := func(id string) bool { return c.in(id, "cat "+shown+"/victim "+shown+"/below/victim") != "" }

	for _, tc := range []struct {
		name    string
		change  func(*testing.T, string)
		refused string
		does    func(id string) bool
	}{
		{"nothing", func(*testing.T, string) {}, "", func(id string) bool { return c.in(id, "echo in") == "in" }},
		{"a source that leads out", mounts(func(all []proto) []proto {
			i, memory := at(all, shown), all[at(all, "/dev")]
			all[i] = all[i].set(3, memory.get(3)).set(6, strings.Repeat("/..", 16)+secret).set(5, memory.get(5)).set(9, memory.get(9)).set(17, 0)
			return all
		}), "a mount of", showsSecret},
		{"a link in memory", func(t *testing.T, dir string) {
			var device int
			mounts(func(all []proto) []proto {
				i, memory := at(all, shown), all[at(all, "/dev")]
				device = memory.get(3).(int)
				all[i] = all[i].set(3, memory.get(3)).set(6, "/link/below").set(5, memory.get(5)).set(9, memory.get(9)).set(17, 0)
				return all
			})(t, dir)
			addLink(t, filepath.Join(dir, fmt.Sprintf("tmpfs-dev-%d.tar.gz.img", device)), secret)
		}, "shows what is at /dev", showsSecret},
		{"a file system of the machine", mounts(func(all []proto) []proto {
			i := at(all, shown)
			all[i] = append(all[i].set(1, 16).set(3, 99).set(5, 0).set(8, "overlay").set(9, "lowerdir="+filepath.Join(secret, "below")+":"+filepath.Join(c.dir, "rootfs")).set(17, 0),
				proto{{14, "overlay"}, {18, "CRIU:EXTERNAL_DEV"}}...)
			return all
		}), "which is no path", showsSecret},
		{"the kernel's settings", mounts(func(all []proto) []proto {
			i := at(all, "/proc/sys")
			all[i] = all[i].set(5, all[i].get(5).(int)&^1).set(17, 1)
			return all
		}), "", func(id string) bool { return strings.Contains(c.in(id, "grep ' /proc/sys ' /proc/mounts"), " rw,") }},
		{"another proc over it", mounts(func(all []proto) []proto {
			proc := all[at(all, "/proc")]
			return append([]proto{proc.set(2, 9999).set(4, proc.get(2))}, all...)
		}), "at /proc", func(id string) bool { return c.in(id, "test -c /proc/keys || echo uncovered") == "uncovered" }},
		{"the machine's network, by bits that CRIU drops", func(t *testing.T, dir string) {
			b, err := os.ReadFile(filepath.Join(dir, "inventory.img"))
			if err != nil {
				t.Fatal(err)
			}
			machine := decode(decode(string(b[8:])).get(3).(string)).get(6).(int)
			names, err := filepath.Glob(filepath.Join(dir, "ids-*.img"))
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				edit(filepath.Base(name), func(all []proto) []proto { return []proto{all[0].set(6, 1<<32|machine)} })(t, dir)
			}
		}, "", func(id string) bool {
			here, err := os.Readlink("/proc/self/ns/net")
			return err == nil && c.in(id, "busybox readlink /proc/1/ns/net") == here
		}},
		{"a property of a control group", edit("cgroup.img", func(all []proto) []proto {
			for i, f := range all[0] {
				if f.field != 2 {
					continue
				}
				controller := decode(f.value.(string))
				below := proto{{1, "below"}, {3, proto{{1, strings.Repeat("../", 16) + victim}, {2, "written"}}}, {4, proto{{1, 0o755}, {2, 0}, {3, 0}}}}
				all[0][i].value = controller.set(2, string(append(decode(controller.get(2).(string)), proto{{2, below}}...).encode()))
				break
			}
			return all
		}), "the property", func(string) bool {
			b, err := os.ReadFile(victim)
			return err == nil && strings.HasPrefix(string(b), "written")
		}},
		{"a deleted file behind a link", func(t *testing.T, dir string) {
			if err := os.Chtimes(secret, time.Time{}, long); err != nil {
				t.Fatal(err)
			}
			edit("files.img", func(all []proto) []proto {
				root := all[slices.IndexFunc(all, func(m proto) bool { return m.get(1) == fileRegular && decode(m.get(3).(string)).get(6) == "/" })]
				file := decode(root.get(3).(string)).set(1, 500).set(6, "/link/gone")
				return append(all, proto{{1, fileRegular}, {2, 500}, {3, file}})
			})(t, dir)
			writeImage(t, filepath.Join(dir, "remap-fpath.img"), 0x59133954, proto{{1, 500}, {2, 1}, {3, 1}})
			writeImage(t, filepath.Join(dir, "ghost-file-1.img"), 0x52583605, proto{{1, 0}, {2, 0}, {3, syscall.S_IFREG | 0o4755}})
		}, "", func(string) bool {
			info, err := os.Stat(secret) // CRIU takes the file away again
			return err == nil && !info.ModTime().Equal(long)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "ck")
			if _, err := archive.Read(t.Context(), bytes.NewReader(makeTar(t, append(containerdArchive(), images(t, c.images)...)...)), dir, archive.Limits{}); err != nil {
				t.Fatal(err)
			}
			images := filepath.Join(dir, archive.ImagesDir)
			tc.change(t, images)
			rights, err := archive.ReadRights(t.Context(), dir)
			switch {
			case tc.refused != "":
				checkRefused(t, err, tc.refused)
			case err != nil:
				t.Fatal(err)
			case tc.name == "nothing":
				if diff := cmp.Diff([]string(nil), rights.Beyond(c.spec)); diff != "" {
					t.Errorf("beyond the spec (-want +got):\n%s", diff)
				}
			case len(rights.Beyond(c.spec)) == 0 && rights.CheckGhosts(filepath.Join(c.dir, "rootfs")) == nil:
				t.Error("nothing is beyond the spec")
			}
			c.restore(t, images)
			if !tc.does(c.id) {
				t.Error("CRIU does not do it any more: look whether the check is still needed")
			}
		})
	}
}

// bundle is a container of runc's that was dumped.
type bundle struct {
	dir, images, id string
	spec            *specs.Spec
}

func newBundle(t *testing.T) *bundle {
	if !*rootFlag {
		t.Skip("restores containers of runc: run as root with -test.root")
	}
	for _, tool := range []string{"runc", "criu", "busybox"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("runs containers: needs %s (test/tools/install.sh)", tool)
		}
	}
	dir := t.TempDir()
	c := &bundle{dir: dir, images: filepath.Join(dir, "images"), id: "lithify-hostile"}
	busybox, _ := exec.LookPath("busybox")
	c.must(t, "sh", "-c", "mkdir -p rootfs/bin rootfs/proc rootfs/sys rootfs/dev && cp "+busybox+" rootfs/bin/busybox && for a in sh sleep cat grep test echo; do ln -s busybox rootfs/bin/$a; done")
	c.must(t, "runc", "spec")
	raw, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err == nil {
		err = json.Unmarshal(raw, &c.spec)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.spec.Process.Terminal, c.spec.Root.Readonly = false, false
	c.spec.Process.Args = []string{"sh", "-c", "while :; do sleep 1; done"}
	if raw, err = json.Marshal(c.spec); err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.runc(t, "run", "--detach", c.id)
	t.Cleanup(func() { c.command("runc", c.global("delete", "--force", c.id)...).Run() })
	c.runc(t, "checkpoint", "--image-path", c.images, "--work-path", filepath.Join(dir, "work"), c.id)
	return c
}

func (c *bundle) global(args ...string) []string {
	return append([]string{"--root", filepath.Join(c.dir, "runc"), "--log", c.log()}, args...)
}

func (c *bundle) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = c.dir
	return cmd
}

// must runs a program with no output: what runc has a container inherits, and CRIU would have
// to dump.
func (c *bundle) must(t testing.TB, name string, args ...string) {
	t.Helper()
	cmd := c.command(name, args...)
	if err := cmd.Run(); err != nil {
		log, _ := os.ReadFile(c.log())
		t.Fatalf("%s: %v\n%s", cmd, err, log)
	}
}

func (c *bundle) log() string { return filepath.Join(c.dir, "runc.log") }

func (c *bundle) runc(t testing.TB, args ...string) {
	t.Helper()
	c.must(t, "runc", c.global(args...)...)
}

// restore has runc and CRIU restore what is in a directory, and asks nobody.
func (c *bundle) restore(t *testing.T, images string) {
	t.Helper()
	c.runc(t, "restore", "--detach", "--image-path", images, "--work-path", filepath.Join(t.TempDir(), "work"), "--bundle", c.dir, c.id)
	t.Cleanup(func() { c.runc(t, "delete", "--force", c.id) })
}

// in runs a script in a container.
func (c *bundle) in(id, script string) string {
	out, _ := c.command("runc", c.global("exec", id, "sh", "-c", script)...).Output()
	return strings.TrimSpace(string(out))
}

// get is a field's value; decode's are numbers and strings.
func (p proto) get(field protowire.Number) any {
	for _, f := range p {
		if f.field == field {
			return f.value
		}
	}
	return nil
}

func decode(s string) (p proto) {
	for b := []byte(s); len(b) > 0; {
		number, kind, n := protowire.ConsumeTag(b)
		b = b[n:]
		f := proto{{field: number}}
		if kind == protowire.VarintType {
			v, n := protowire.ConsumeVarint(b)
			f[0].value, b = int(v), b[n:]
		} else {
			v, n := protowire.ConsumeBytes(b)
			f[0].value, b = string(v), b[n:]
		}
		p = append(p, f...)
	}
	return p
}

// edit changes the messages of an image.
func edit(name string, change func([]proto) []proto) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		files, err := filepath.Glob(filepath.Join(dir, name))
		if err != nil || len(files) != 1 {
			t.Fatalf("%s: %v, %v", name, files, err)
		}
		b, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		out, b := b[:8:8], b[8:]
		var all []proto
		for len(b) > 0 {
			n := binary.LittleEndian.Uint32(b)
			all, b = append(all, decode(string(b[4:4+n]))), b[4+n:]
		}
		for _, m := range change(all) {
			e := m.encode()
			out = append(binary.LittleEndian.AppendUint32(out, uint32(len(e))), e...)
		}
		if err := os.WriteFile(files[0], out, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// writeImage writes an image of one message.
func writeImage(t *testing.T, file string, magic uint32, m proto) {
	e := m.encode()
	b := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, 0x54564319), magic)
	b = append(binary.LittleEndian.AppendUint32(b, uint32(len(e))), e...)
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// fileRegular is the kind of a regular file in files.img.
const fileRegular = 1

func mounts(change func([]proto) []proto) func(*testing.T, string) {
	return edit("mountpoints-*.img", change)
}

func at(all []proto, path string) int {
	return slices.IndexFunc(all, func(m proto) bool { return m.get(7) == path })
}

// addLink adds the symbolic link ./link to the contents of a file system.
func addLink(t *testing.T, file, target string) {
	if err := rewrite(file, &tar.Header{Name: "./link", Typeflag: tar.TypeSymlink, Linkname: target}); err != nil {
		t.Fatal(err)
	}
}

func rewrite(file string, more *tar.Header) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	z, err := gzip.NewReader(bytes.NewReader(old))
	if err != nil {
		return err
	}
	var b bytes.Buffer
	out := gzip.NewWriter(&b)
	w, r := tar.NewWriter(out), tar.NewReader(z)
	for {
		hdr, err := r.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = w.WriteHeader(hdr)
		}
		if err == nil {
			_, err = io.Copy(w, r)
		}
		if err != nil {
			return err
		}
	}
	if err := errors.Join(w.WriteHeader(more), w.Close(), out.Close()); err != nil {
		return err
	}
	return os.WriteFile(file, b.Bytes(), 0o600)
}
