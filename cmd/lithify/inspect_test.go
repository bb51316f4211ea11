package main

import (
	"archive/tar"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/lithify/lithify/cimfs"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/inspect"
	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/test/corpus"
)

// counting is a registry that knows how many bytes of blobs it has sent.
type counting struct {
	host string
	sent *atomic.Int64
	puts *atomic.Int64 // requests that write
}

type countedWriter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (w countedWriter) Write(p []byte) (int, error) {
	w.n.Add(int64(len(p)))
	return w.ResponseWriter.Write(p)
}

func newCounting(t *testing.T) counting {
	t.Helper()
	c := counting{sent: new(atomic.Int64), puts: new(atomic.Int64)}
	real := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			c.puts.Add(1)
		}
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			w = countedWriter{w, c.sent}
		}
		real.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	c.host = strings.TrimPrefix(srv.URL, "http://")
	return c
}

func (c counting) push(t *testing.T, what mutate.Appendable, repo string) {
	t.Helper()
	ref, err := name.ParseReference(c.host + "/" + repo)
	if err != nil {
		t.Fatal(err)
	}
	if index, ok := what.(v1.ImageIndex); ok {
		err = remote.WriteIndex(ref, index)
	} else {
		err = remote.Write(ref, what.(v1.Image))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// threeLayers hide, replace and add.
func threeLayers(t *testing.T) v1.Image {
	t.Helper()
	at := time.Unix(1e9, 0)
	dir := func(w *tar.Writer, name string, mode int64) error {
		return w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: mode, ModTime: at})
	}
	file := func(w *tar.Writer, name, content string) error {
		return corpus.File(w, tar.Header{Name: name, Mode: 0o644, ModTime: at}, content)
	}
	var layers []v1.Layer
	for _, fill := range []func(*tar.Writer) error{
		func(w *tar.Writer) error {
			return errorsOf(dir(w, "./", 0o755), dir(w, "usr/", 0o755), dir(w, "usr/lib/", 0o755), file(w, "usr/lib/os-release", "ID=lower\n"),
				w.WriteHeader(&tar.Header{Name: "lib", Typeflag: tar.TypeSymlink, Linkname: "usr/lib", Mode: 0o777, ModTime: at}),
				dir(w, "etc/", 0o711), file(w, "etc/gone", "gone"), dir(w, "opt/", 0o755), file(w, "opt/hidden", "hidden"),
				w.WriteHeader(&tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3, Mode: 0o666, ModTime: at}),
				file(w, "big", strings.Repeat("lithify\n", 1<<20)))
		},
		func(w *tar.Writer) error {
			return errorsOf(file(w, "etc/.wh.gone", ""), dir(w, "opt/", 0o750), file(w, "opt/.wh..wh..opq", ""), file(w, "opt/new", "new"),
				w.WriteHeader(&tar.Header{Name: "etc/os-release", Typeflag: tar.TypeSymlink, Linkname: "/lib/os-release", Mode: 0o777, ModTime: at}))
		},
		func(w *tar.Writer) error { return file(w, "usr/lib/os-release", "ID=top\n") },
	} {
		l, err := corpus.Built(types.OCILayer, fill)
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, l)
	}
	image, err := corpus.Image(corpus.Linux, []string{"/bin/sh"}, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestFiles looks into a converted image, of three profiles, as a container would.
func TestFiles(t *testing.T) {
	for _, profile := range []string{"erofs", "erofs+zstd", "erofs-index"} {
		t.Run(profile, func(t *testing.T) {
			hub := newCounting(t)
			hub.push(t, threeLayers(t), "app:1")
			dialect := map[bool]string{true: "spec", false: "legacy"}[profile == "erofs-index"]
			must(t, "convert", "--profile", profile, "--dialect", dialect, "--platform", "linux/amd64", hub.host+"/app:1", hub.host+"/app:2")
			ref := hub.host + "/app:2"
			hub.sent.Store(0)
			want := `-0644  0:0  8388608  2001-09-09T01:46:40Z  big
d0711  0:0  0        2001-09-09T01:46:40Z  etc
l0777  0:0  15       2001-09-09T01:46:40Z  etc/os-release -> /lib/os-release
l0777  0:0  7        2001-09-09T01:46:40Z  lib -> usr/lib
c0666  0:0  1:3      2001-09-09T01:46:40Z  null
d0750  0:0  0        2001-09-09T01:46:40Z  opt
-0644  0:0  3        2001-09-09T01:46:40Z  opt/new
d0755  0:0  0        2001-09-09T01:46:40Z  usr
d0755  0:0  0        2001-09-09T01:46:40Z  usr/lib
-0644  0:0  7        2001-09-09T01:46:40Z  usr/lib/os-release
`
			if d := cmp.Diff(want, must(t, "ls", "-R", ref)); d != "" {
				t.Errorf("ls -R (-want +got):\n%s", d)
			}
			if sent := hub.sent.Load(); profile == "erofs-index" && sent > 20_000 {
				t.Errorf("ls fetched %d bytes of metadata", sent)
			}
			if got := must(t, "cat", ref, "/etc/os-release"); got != "ID=top\n" {
				t.Errorf("cat: %q", got)
			}
			if sent := hub.sent.Load(); profile == "erofs" && sent > 300_000 {
				t.Errorf("ls and cat fetched %d bytes of an image of 8.4 MB", sent)
			}
			if got := must(t, "cat", ref, "big"); got != strings.Repeat("lithify\n", 1<<20) {
				t.Errorf("a file of many windows: %d bytes, other ones", len(got))
			}
			if got := must(t, "ls", ref, "lib"); !strings.HasSuffix(got, "usr/lib/os-release\n") || strings.Count(got, "\n") != 1 {
				t.Errorf("ls of a link to a directory: %q", got)
			}
			var list []listedFile
			if err := json.Unmarshal([]byte(must(t, "ls", "-o", "json", ref, "null")), &list); err != nil || len(list) != 1 || list[0].Device != "1:3" || list[0].Layer.Validate() != nil {
				t.Errorf("ls -o json: %+v, %v", list, err)
			}
			if got := must(t, "verify", ref); !strings.HasSuffix(got, ": 3 layers, 11 files, same\n") {
				t.Errorf("verify: %q", got)
			}
			for _, c := range []struct {
				args []string
				code int
				says string
			}{
				{[]string{"ls", ref, "etc/gone"}, 4, "etc/gone"},
				{[]string{"cat", ref, "opt/hidden"}, 4, "opt/hidden"},
				{[]string{"cat", ref, "usr"}, 2, "a directory"},
				{[]string{"cat", ref, "null"}, 1, "no regular file"},
				{[]string{"ls", "--platform", "linux/arm64", ref}, 3, "linux/amd64"},
				{[]string{"ls", hub.host + "/app:1"}, 3, "no EROFS variant"},
				{[]string{"ls"}, 2, "ls REF [PATH]"},
			} {
				code, stdout, stderr := lithify(t, c.args...)
				if code != c.code || !strings.Contains(stderr, c.says) || stdout != "" {
					t.Errorf("%q: exit code %d, want %d; %q, want it to name %q; stdout %q", c.args, code, c.code, stderr, c.says, stdout)
				}
			}
		})
	}
}

// TestInspect shows both dialects, and an image for Windows whose block CIM is none.
func TestInspect(t *testing.T) {
	hub := newCounting(t)
	hub.push(t, threeLayers(t), "app:1")
	must(t, "convert", "--profile", "erofs+zstd", "--dialect", "spec", "--platform", "linux/amd64", hub.host+"/app:1", hub.host+"/app:2")
	hub.sent.Store(0)
	var r inspect.Report
	if err := json.Unmarshal([]byte(must(t, "inspect", "-o", "json", hub.host+"/app:2")), &r); err != nil {
		t.Fatal(err)
	}
	if sent := hub.sent.Load(); sent > 600_000 {
		t.Errorf("%d bytes of blobs fetched", sent)
	}
	if len(r.Manifests) != 2 || r.Manifests[0].Kind != "tar" || len(r.Manifests[0].Layers) != 3 {
		t.Fatalf("got %+v", r)
	}
	v := r.Manifests[1]
	if v.Kind != "erofs" || v.Dialect != erofs.DialectSpec || v.Profile != erofs.ProfileZstd || v.Writer != erofs.WriterVersion || v.Source != r.Manifests[0].Digest || len(v.Layers) != 3 {
		t.Errorf("variant: %+v", v)
	}
	for i, l := range v.Layers {
		if l.Problem != "" || l.FileSystem == nil || l.FileSystem.Inodes < 3 || l.FileSystem.BlockSize != 4096 || l.DiffID != r.Manifests[1].Layers[i].DiffID || l.DiffID.String() != l.Annotations[erofs.AnnotationUncompressedDigest] || (l.Role == erofs.RoleOverlayLower) != (i < 2) {
			t.Errorf("layer %d: %+v", i, l)
		}
	}
	text := must(t, "inspect", hub.host+"/app:2")
	for _, want := range []string{"\nerofs linux(+erofs)/amd64\n", "dialect    spec\n", "role       overlay-lower\n", "source     " + string(v.Source) + "\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("text lacks %q:\n%s", want, text)
		}
	}
}

// TestInspectIndex shows that files are in the original layers.
func TestInspectIndex(t *testing.T) {
	hub := newCounting(t)
	hub.push(t, threeLayers(t), "app:1")
	must(t, "convert", "--profile", "erofs-index", "--dialect", "spec", "--platform", "linux/amd64", hub.host+"/app:1", hub.host+"/app:2")
	var r inspect.Report
	if err := json.Unmarshal([]byte(must(t, "inspect", "-o", "json", hub.host+"/app:2")), &r); err != nil {
		t.Fatal(err)
	}
	original, v := r.Manifests[0], r.Manifests[1]
	if v.Kind != "erofs" || v.Dialect != erofs.DialectSpec || v.Profile != erofs.ProfileIndex || len(v.Layers) != 6 {
		t.Fatalf("variant: %+v", v)
	}
	text := must(t, "inspect", hub.host+"/app:2")
	for i, l := range original.Layers {
		tar, image := v.Layers[2*i], v.Layers[2*i+1]
		if tar.Digest != l.Digest || tar.Role != erofs.RoleDevice || tar.DiffID != l.DiffID {
			t.Errorf("layer %d: %+v", i, tar)
		}
		if fs := image.FileSystem; image.Problem != "" || fs.Devices != 1 || fs.BlockSize != 512 || len(fs.DeviceTags) != 1 || fs.DeviceTags[0] != l.Digest.Encoded() {
			t.Errorf("layer %d: %+v, %+v", i, image, fs)
		}
		if !strings.Contains(text, "files in   "+l.Digest.Encoded()+"\n") {
			t.Errorf("inspect says nothing of where the files of layer %d are:\n%s", i, text)
		}
	}
}

func TestInspectBlockCIM(t *testing.T) {
	hub := newCounting(t)
	for name, content := range map[string]string{"emulated": "EMUCIM1 " + strings.Repeat("x", 1016), "real": strings.Repeat("y", 1024)} {
		image := mutate.ConfigMediaType(mutate.MediaType(corpusWindows(t), types.OCIManifestSchema1), types.OCIConfigJSON)
		image, err := mutate.Append(image, mutate.Addendum{
			Layer:     static.NewLayer([]byte(content), cimfs.MediaTypeLayer),
			MediaType: cimfs.MediaTypeLayer,
			Annotations: map[string]string{
				cimfs.AnnotationName: "layer.cim", cimfs.AnnotationRootHash: strings.Repeat("ab", 32), cimfs.AnnotationWriter: "cimwriter.dll 1 on build 2",
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		image = mutate.Annotations(image, map[string]string{convert.AnnotationProfile: string(convert.ProfileBlockCIM)}).(v1.Image)
		hub.push(t, image, "win:"+name)
		text := must(t, "inspect", hub.host+"/win:"+name)
		for _, want := range []string{"\nblockcim windows(10.0.26100.1)/amd64\n", "CIM        layer.cim\n", "root hash  " + strings.Repeat("ab", 32), "writer     cimwriter.dll 1 on build 2\n"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %q:\n%s", name, want, text)
			}
		}
		if got := strings.Contains(text, "EMULATED"); got != (name == "emulated") {
			t.Errorf("%s: said to be emulated: %t", name, got)
		}
	}
}

func corpusWindows(t *testing.T) v1.Image {
	t.Helper()
	image, err := corpus.Image(v1.Platform{OS: "windows", Architecture: "amd64", OSVersion: "10.0.26100.1"}, []string{"cmd"})
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// TestDiff compares variants that differ in one file's content, of equal size, and in one more file.
func TestDiff(t *testing.T) {
	hub := newCounting(t)
	push := func(tag, content string, names ...string) string {
		l, err := corpus.Built(types.OCILayer, func(w *tar.Writer) error {
			for _, name := range append([]string{"same", "other"}, names...) {
				c := "equal"
				if name == "other" {
					c = content
				}
				if err := corpus.File(w, tar.Header{Name: name, Mode: 0o644, ModTime: time.Unix(1e9, 0)}, c); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		image, err := corpus.Image(corpus.Linux, []string{"/bin/sh"}, l)
		if err != nil {
			t.Fatal(err)
		}
		hub.push(t, image, tag)
		must(t, "convert", "--platform", "linux/amd64", hub.host+"/"+tag, hub.host+"/"+tag+"-erofs")
		return hub.host + "/" + tag + "-erofs"
	}
	one, two := push("a:1", "abc"), push("a:2", "abd", "new")
	got := must(t, "diff", one, two)
	if lines := strings.Split(strings.TrimSpace(got), "\n"); len(lines) != 2 || lines[0] != "new: file: regular file, was none" || !strings.HasPrefix(lines[1], "other: sha256: ") {
		t.Errorf("got %q", got)
	}
	if got := must(t, "diff", one, one); got != "" {
		t.Errorf("of one with itself: %q", got)
	}
	if got := must(t, "diff", "-o", "json", one, one); got != "[]\n" {
		t.Errorf("as JSON: %q", got)
	}
}
