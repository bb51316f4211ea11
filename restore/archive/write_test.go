package archive_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/lithify/lithify/restore/archive"
)

var formats = []archive.Format{archive.Containerd, archive.CRIO, archive.Podman}

const imageID = "sha256:2222222222222222222222222222222222222222222222222222222222222222"

// layerOf is what a container has changed: a file deleted, one changed, a directory that was
// made anew in the place of another, with one that was there again.
func layerOf(t testing.TB) []byte {
	return makeTar(t,
		member{name: "etc/", kind: tar.TypeDir, mode: 0o755},
		member{name: "etc/.wh.gone"},
		member{name: "etc/changed", body: "new", mode: 0o4755, pax: map[string]string{"SCHILY.xattr.user.note": "n"}},
		member{name: "etc/link", kind: tar.TypeSymlink, link: "/etc/passwd"},
		member{name: "data/", kind: tar.TypeDir, mode: 0o700},
		member{name: "data/.wh..wh..opq"},
		member{name: "data/kept", body: "k"},
		member{name: ".wh.replaced"}, // a file or directory, by a directory
		member{name: "replaced/", kind: tar.TypeDir, mode: 0o700},
		member{name: ".wh.file"}, // by a file
		member{name: "file", body: "n", nanos: 7},
		member{name: "data/sub/", kind: tar.TypeDir, mode: 0o700},
		member{name: "data/sub/f", body: "f"},
	)
}

// below is the base image under it.
func below(dir string) ([]string, error) {
	names, ok := map[string][]string{"data": {"kept", "old", "sub"}, "data/sub": {"f", "g"}, "replaced": {"x"}}[dir]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return names, nil
}

// whole is a checkpoint with everything that there is, in a directory.
func whole(t testing.TB) (string, *archive.Checkpoint) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ck")
	c, err := archive.Read(t.Context(), bytes.NewReader(makeTar(t, containerdArchive(
		member{name: "checkpoint/inventory.img", body: "inventory"},
		member{name: "checkpoint/pages-1.img", body: "pages"},
		member{name: "checkpoint/pstree.img", body: "pstree"},
		member{name: "checkpoint/parent", kind: tar.TypeSymlink, link: "../pre-checkpoint"},
		member{name: "pre-checkpoint/pages-1.img", body: "before"},
		member{name: "container.log", body: "hello\n"},
		member{name: "dump.log", body: "dumped\n"},
		member{name: "stats-dump", body: "stats"},
		member{name: "devshm-checkpoint.tar", body: "shm"},
		member{name: "rootfs-diff.tar", body: string(gzipped(t, layerOf(t)))},
	)...)), dir, archive.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	c.Base.ID = imageID
	c.Host = archive.Host{Arch: "amd64", Kernel: "6.18.44", CRIU: "4.1.1", Cgroup: "2", Runtime: "1.5.2",
		CPU: archive.CPU{Vendor: "AuthenticAMD", Model: "EPYC", Features: []string{"avx2", "sse4_2"}, XSave: 832}}
	return dir, c
}

func write(t testing.TB, dir string, c *archive.Checkpoint, f archive.Format) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := archive.Write(t.Context(), &b, dir, c, archive.WriteOptions{Format: f, Below: below}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// layer reads what a container has changed, each entry as a line.
func layer(t testing.TB, dir string, c *archive.Checkpoint) []string {
	t.Helper()
	r := c.Changes(t.Context(), dir, archive.Limits{})
	defer r.Close()
	var lines []string
	for tr := tar.NewReader(r); ; {
		hdr, err := tr.Next()
		if err == io.EOF {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.Join([]string{string(hdr.Typeflag), hdr.Name, hdr.FileInfo().Mode().String(), hdr.Linkname, string(body), hdr.PAXRecords["SCHILY.xattr.user.note"] + strings.TrimSuffix(hdr.ModTime.Format(".999999999"), ".")}, " "))
	}
}

// TestRoundTrips goes from each format to each other: what an archive says, and what is in
// it, stays the same, and so does every byte of it the second time.
func TestRoundTrips(t *testing.T) {
	source, want := whole(t)
	for _, from := range formats {
		for _, to := range formats {
			t.Run(string(from+" to "+to), func(t *testing.T) {
				first := filepath.Join(t.TempDir(), "first")
				c, err := archive.Read(t.Context(), bytes.NewReader(write(t, source, want, from)), first, archive.Limits{})
				if err != nil {
					t.Fatal(err)
				}
				b := write(t, first, c, to)
				if !bytes.Equal(b, write(t, first, c, to)) {
					t.Error("written twice, and not the same")
				}
				second := filepath.Join(t.TempDir(), "second")
				got, err := archive.Read(t.Context(), bytes.NewReader(b), second, archive.Limits{})
				if err != nil {
					t.Fatal(err)
				}
				if got.Format != to {
					t.Errorf("format %s, want %s", got.Format, to)
				}
				checkSpec(t, got.Spec, want.Spec)
				expect := *want
				expect.Format, expect.Spec, expect.Ignored = got.Format, got.Spec, got.Ignored
				if diff := cmp.Diff(&expect, got); diff != "" {
					t.Error(diff)
				}
				checkLayer(t, layer(t, second, got), from == archive.Containerd && to == archive.Containerd)
				if names := tree(t, second); !slices.Contains(names, "checkpoint/pages-1.img") || !slices.Contains(names, "pre-checkpoint/pages-1.img") ||
					!slices.Contains(names, "container.log") || !slices.Contains(names, "devshm-checkpoint.tar") || !slices.Contains(names, "stats-dump") {
					t.Errorf("files %v", names)
				}
			})
		}
	}
}

// checkSpec: all but the annotations is as it was.
func checkSpec(t *testing.T, got, want []byte) {
	t.Helper()
	var g, w map[string]any
	if err := json.Unmarshal(got, &g); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(want, &w); err != nil {
		t.Fatal(err)
	}
	delete(g, "annotations")
	delete(w, "annotations")
	if diff := cmp.Diff(w, g); diff != "" {
		t.Error(diff)
	}
}

// checkLayer: where an archive went through deleted.files, the directory that is new as a
// whole has become a list of what is not in it.
func checkLayer(t *testing.T, got []string, opaque bool) {
	t.Helper()
	want := []string{
		"5 etc/ drwxr-xr-x   ",
		"0 etc/.wh.gone -rw-r--r--   ",
		"0 etc/changed urwxr-xr-x  new n",
		"2 etc/link Lrw-r--r-- /etc/passwd  ",
		"5 data/ drwx------   ",
		"0 data/.wh..wh..opq -rw-r--r--   ",
		"0 data/kept -rw-r--r--  k ",
		"0 .wh.replaced -rw-r--r--   ",
		"5 replaced/ drwx------   ",
		"0 .wh.file -rw-r--r--   ",
		"0 file -rw-r--r--  n .000000007",
		"5 data/sub/ drwx------   ",
		"0 data/sub/f -rw-r--r--  f ",
	}
	if !opaque {
		want = slices.DeleteFunc(want, func(l string) bool { return strings.Contains(l, ".wh.") })
		want = append([]string{"0 data/.wh.old -rw-------   ", "0 data/sub/.wh.g -rw-------   ", "0 etc/.wh.gone -rw-------   ", "0 replaced/.wh.x -rw-------   "}, want...)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestWriteForReaders: what each engine does not start without.
func TestWriteForReaders(t *testing.T) {
	dir, c := whole(t)
	c.Annotations, c.Labels, c.Runtime = nil, nil, "io.containerd.runc.v2"
	for format, want := range map[archive.Format]map[string][]string{
		archive.Containerd: {
			"config.dump": {`"rootfsImageRef":"docker.io/library/busybox@` + baseDigest + `"`, `"runtime":"io.containerd.runc.v2"`},
			"status.dump": {`"annotations":{}`, `"labels":{}`}, // it writes to them
		},
		archive.CRIO: {
			"config.dump":   {`"rootfsImageRef":"` + imageID[len("sha256:"):] + `"`, `"rootfsImageName":"docker.io/library/busybox@` + baseDigest + `"`, `"runtime":"runc"`},
			"spec.dump":     {`"io.container.manager":"cri-o"`, `"io.kubernetes.cri-o.Annotations":"{}"`, `"io.kubernetes.cri-o.Metadata":"{\"name\":\"web\"}"`},
			"deleted.files": {`["/data/old","/data/sub/g","/etc/gone","/replaced/x"]`},
		},
		archive.Podman: {
			"config.dump": {`"runtime":"runc"`, `"rootfsImageID":"` + imageID[len("sha256:"):] + `"`, `"rootfsImageName":"docker.io/library/busybox@` + baseDigest + `"`},
			"spec.dump":   {`"io.container.manager":"libpod"`},
		},
	} {
		files := map[string]string{}
		for tr := tar.NewReader(bytes.NewReader(write(t, dir, c, format))); ; {
			hdr, err := tr.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(tr)
			if err != nil {
				t.Fatal(err)
			}
			files[hdr.Name] = string(b)
		}
		for name, parts := range want {
			for _, part := range parts {
				if !strings.Contains(files[name], part) {
					t.Errorf("%s: %s is %s, want it to have %s", format, name, files[name], part)
				}
			}
		}
	}
}

func TestWriteNeeds(t *testing.T) {
	dir, full := whole(t)
	for _, tt := range []struct {
		name   string
		format archive.Format
		lack   func(*archive.Checkpoint)
		want   string
	}{
		{"no digest", archive.Containerd, func(c *archive.Checkpoint) { c.Base.Digest = "" }, "digest of the base image's manifest"},
		{"no image ID", archive.CRIO, func(c *archive.Checkpoint) { c.Base.ID = "" }, "ID of the base image"},
		{"no image ID for Podman", archive.Podman, func(c *archive.Checkpoint) { c.Base.ID = "" }, "ID of the base image"},
		{"no image", archive.Containerd, func(c *archive.Checkpoint) { c.Base.Name = "/etc/../x" }, "name of the base image"},
		{"no container", archive.Podman, func(c *archive.Checkpoint) { c.ID = "" }, "ID and name"},
		{"no runtime", archive.Podman, func(c *archive.Checkpoint) { c.Runtime = "" }, "OCI runtime"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := *full
			tt.lack(&c)
			err := archive.Write(t.Context(), io.Discard, dir, &c, archive.WriteOptions{Format: tt.format, Below: below})
			if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want a failed precondition about %s", err, tt.want)
			}
		})
	}
	err := archive.Write(t.Context(), io.Discard, dir, full, archive.WriteOptions{Format: archive.Podman})
	checkRefused(t, err, "data/.wh..wh..opq", "base image at hand")
	if err := archive.Write(t.Context(), io.Discard, dir, full, archive.WriteOptions{Format: "lxc"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("got %v for a format that there is not", err)
	}
}

// TestChangesRefuses is what a hostile tar of changed files meets.
func TestChangesRefuses(t *testing.T) {
	for _, tt := range []struct {
		name    string
		format  archive.Format
		members []member
		want    string
	}{
		{"device", archive.Containerd, []member{{name: "dev/sda", kind: tar.TypeBlock}}, "block device"},
		{"dot dot", archive.Containerd, []member{{name: "../../etc/passwd"}}, "leads elsewhere"},
		{"dot dot inside", archive.CRIO, []member{{name: "a/../../x"}}, "leads elsewhere"},
		{"hard link outside", archive.Containerd, []member{{name: "x", kind: tar.TypeLink, link: "../../etc/shadow"}}, "leads elsewhere"},
		{"twice", archive.Podman, []member{{name: "x"}, {name: "./x"}}, "two of it"},
		{"overlayfs's own attribute", archive.Containerd, []member{{name: "x/", kind: tar.TypeDir, pax: map[string]string{"SCHILY.xattr.trusted.overlay.redirect": "/"}}}, "snapshotter's own"},
		{"a whiteout where there are none", archive.CRIO, []member{{name: "etc/.wh.passwd"}}, "would delete another file"},
		{"a whiteout with contents", archive.Containerd, []member{{name: "etc/.wh.passwd", body: "x"}}, "no whiteout"},
		{"a whiteout of nothing", archive.Containerd, []member{{name: "etc/.wh."}}, "no whiteout"},
		{"aufs's own", archive.Containerd, []member{{name: ".wh..wh.plnk"}}, "no whiteout"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, c := whole(t)
			c.Format = tt.format
			dir := filepath.Join(t.TempDir(), "ck")
			if _, err := archive.Read(t.Context(), bytes.NewReader(makeTar(t, containerdArchive(member{name: "rootfs-diff.tar", body: string(makeTar(t, tt.members...))})...)), dir, archive.Limits{}); err != nil {
				t.Fatal(err)
			}
			r := c.Changes(t.Context(), dir, archive.Limits{})
			defer r.Close()
			_, err := io.Copy(io.Discard, r)
			checkRefused(t, err, "rootfs-diff.tar", tt.want)
		})
	}
}

// TestChangesDamaged: a tar that is cut off, in itself or in its compression, is no shorter one.
func TestChangesDamaged(t *testing.T) {
	whole := layerOf(t)
	for name, b := range map[string][]byte{"between entries": whole[:len(whole)-1024], "in an entry": whole[:700], "gzip": gzipped(t, whole)[:200], "zstd": zstded(t, whole)[:100]} {
		dir := filepath.Join(t.TempDir(), "ck")
		c, err := archive.Read(t.Context(), bytes.NewReader(makeTar(t, containerdArchive(member{name: "rootfs-diff.tar", body: string(b)})...)), dir, archive.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		r := c.Changes(t.Context(), dir, archive.Limits{})
		_, err = io.Copy(io.Discard, r)
		r.Close()
		if !errdefs.IsInvalidArgument(err) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDeletedFilesRefuses: each path is to be removed with all below it.
func TestDeletedFilesRefuses(t *testing.T) {
	for _, deleted := range []string{`["/../../etc"]`, `["/"]`, `[""]`, `["/a/./b"]`, `["/etc/.wh.x"]`, `{"a":1}`, `[`} {
		dir := filepath.Join(t.TempDir(), "ck")
		c, err := archive.Read(t.Context(), bytes.NewReader(makeTar(t, containerdArchive(member{name: "deleted.files", body: deleted})...)), dir, archive.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		c.Format = archive.CRIO
		r := c.Changes(t.Context(), dir, archive.Limits{})
		_, err = io.Copy(io.Discard, r)
		checkRefused(t, err, "deleted.files")
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}
