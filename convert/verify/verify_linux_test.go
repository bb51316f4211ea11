package verify_test

import (
	"archive/tar"
	"context"
	"errors"
	"flag"
	"io"
	"log"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/convert/stack"
	"github.com/lithify/lithify/convert/verify"
	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/test/corpus"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var rootFlag = flag.Bool("test.root", false, "run the tests that mount, as root")

func needRoot(t *testing.T) {
	t.Helper()
	if !*rootFlag || os.Getuid() != 0 {
		t.Skip("mounts images: run as root with -test.root")
	}
}

// place is a registry in this process.
type place struct{ host string }

func newPlace(t *testing.T) place {
	srv := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	return place{strings.TrimPrefix(srv.URL, "http://")}
}

func (p place) push(t *testing.T, what mutate.Appendable, ref string) {
	t.Helper()
	r, err := name.ParseReference(p.host + "/" + ref)
	if err != nil {
		t.Fatal(err)
	}
	if index, ok := what.(v1.ImageIndex); ok {
		err = remote.WriteIndex(r, index)
	} else {
		err = remote.Write(r, what.(v1.Image))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (p place) open(t *testing.T, ref string) convert.Source {
	t.Helper()
	src, err := registry.Open(p.host+"/"+ref, registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func (p place) convert(t *testing.T, from, to string, opts convert.Options) {
	t.Helper()
	dst, err := registry.Create(p.host+"/"+to, registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := convert.Image(t.Context(), p.open(t, from), dst, opts); err != nil {
		t.Fatal(err)
	}
}

// nothingMounted fails the test if what it mounted below dir is still there at its end.
func nothingMounted(t *testing.T, dir string) {
	t.Cleanup(func() {
		raw, err := os.ReadFile("/proc/mounts")
		if err != nil {
			t.Error(err)
		}
		if strings.Contains(string(raw), dir) {
			t.Errorf("still mounted below %s:\n%s", dir, raw)
		}
	})
}

func built(t *testing.T, fill func(*tar.Writer) error) v1.Layer {
	t.Helper()
	l, err := corpus.Built(types.OCILayer, fill)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func image(t *testing.T, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := corpus.Image(corpus.Linux, []string{"/bin/sh"}, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func real(t *testing.T, name string) v1.Layer {
	t.Helper()
	l, err := corpus.Open(t.Context(), name)
	if errors.Is(err, corpus.ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return l.Registry(corpus.Gzip)
}

// lower has what changes is about.
func lower(w *tar.Writer) error {
	for _, h := range []tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o711, Uid: 9, ModTime: time.Unix(1e9, 7), PAXRecords: map[string]string{"SCHILY.xattr.user.kept": "yes"}},
		{Name: "etc/passwd"},
		{Name: "usr/share/doc/hidden"},
		{Name: "var/log/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "var/log/kept", Mode: 0o4755},
		{Name: "dev/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3, Mode: 0o666},
		{Name: "dev/pipe", Typeflag: tar.TypeFifo, Mode: 0o600},
	} {
		if err := w.WriteHeader(&h); err != nil {
			return err
		}
	}
	return nil
}

// changes are what a layer on Debian's may do, its directories not listed.
func changes(w *tar.Writer) error {
	for _, h := range []tar.Header{
		{Name: "etc/.wh.passwd"},
		{Name: "usr/share/doc/.wh..wh..opq"},
		{Name: "usr/share/doc/only", Mode: 0o640, Uid: 7},
		{Name: "usr/share/doc/same", Typeflag: tar.TypeLink, Linkname: "usr/share/doc/only", Mode: 0o640, Uid: 7},
		{Name: "var/log/", Typeflag: tar.TypeDir, Mode: 0o2700, Gid: 4, PAXRecords: map[string]string{"SCHILY.xattr.user.note": "x"}},
	} {
		if err := w.WriteHeader(&h); err != nil {
			return err
		}
	}
	return nil
}

// TestSame has real images, and odd ones, unpacked and mounted by containerd's code.
func TestSame(t *testing.T) {
	needRoot(t)
	small := func(t *testing.T) v1.Image { return image(t, built(t, lower), built(t, changes)) }
	arm64 := func(t *testing.T) v1.Image {
		img, err := corpus.Image(v1.Platform{OS: "linux", Architecture: "arm64"}, nil, built(t, lower))
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	debian := func(t *testing.T) v1.Image { return image(t, real(t, "debian"), built(t, changes)) }
	for name, c := range map[string]struct {
		make    func(*testing.T) v1.Image
		profile erofs.Profile
		long    bool
	}{
		"debian":      {debian, erofs.ProfileRaw, true},
		"debian-zstd": {debian, erofs.ProfileZstd, true},
		"small":       {small, erofs.ProfileZstd, false},
		"arm64":       {arm64, erofs.ProfileRaw, false},
		"many":        {func(t *testing.T) v1.Image { return image(t, real(t, "node_modules"), built(t, changes)) }, erofs.ProfileRaw, true},
	} {
		t.Run(name, func(t *testing.T) {
			if c.long && testing.Short() {
				t.Skip("takes 10 s: long lane")
			}
			root := t.TempDir()
			nothingMounted(t, root)
			p := newPlace(t)
			p.push(t, c.make(t), "it:1")
			p.convert(t, "it:1", "it:erofs", convert.Options{Profile: c.profile, AllPlatforms: true})
			src := p.open(t, "it:erofs")
			result, err := verify.Image(t.Context(), src, nil, verify.Options{Root: root})
			if err != nil {
				t.Fatal(err)
			}
			if err := result.Err(); err != nil || len(result.Variants) != 1 {
				t.Errorf("%d variants, %v", len(result.Variants), err)
			}
			for _, v := range result.Variants {
				for _, d := range v.Differences {
					t.Log(d)
				}
				if v.Files < 10 || len(v.Root) > 0 {
					t.Errorf("%d files, root %v", v.Files, v.Root)
				}
			}
		})
	}
}

// base is an image of which each thing is altered in turn.
func base(alter func(*tar.Header)) func(*tar.Writer) error {
	return func(w *tar.Writer) error {
		for _, h := range []tar.Header{
			{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
			{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755},
			{Name: "d/f", Mode: 0o644, Uid: 1, PAXRecords: map[string]string{"SCHILY.xattr.user.x": "1"}},
			{Name: "l", Typeflag: tar.TypeLink, Linkname: "d/f", Mode: 0o644, Uid: 1},
			{Name: "s", Typeflag: tar.TypeSymlink, Linkname: "d/f", Mode: 0o777},
		} {
			if alter(&h); h.Name == "" {
				continue
			}
			if err := w.WriteHeader(&h); err != nil {
				return err
			}
			if h.Typeflag == 0 {
				if _, err := w.Write(make([]byte, h.Size)); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

// TestAltered has variants that claim to be of an image and are of another one.
func TestAltered(t *testing.T) {
	needRoot(t)
	p := newPlace(t)
	root := t.TempDir()
	nothingMounted(t, root)
	original := image(t, built(t, base(func(*tar.Header) {})))
	p.push(t, original, "it:1")
	for name, c := range map[string]struct {
		alter func(*tar.Header)
		want  []string
	}{
		"nothing": {func(*tar.Header) {}, nil},
		"mode":    {on("d/", func(h *tar.Header) { h.Mode = 0o700 }), []string{"d mode"}},
		"size":    {on("d/f", func(h *tar.Header) { h.Size = 1 }), []string{"d/f sha256", "d/f size", "l sha256", "l size"}},
		"xattr":   {on("d/f", func(h *tar.Header) { h.PAXRecords["SCHILY.xattr.user.x"] = "2" }), []string{"d/f xattr user.x", "l xattr user.x"}},
		"time":    {on("d/", func(h *tar.Header) { h.ModTime = time.Unix(1e9, 0) }), []string{"d mtime"}},
		"gone":    {on("s", func(h *tar.Header) { h.Name = "" }), []string{"s file"}},
		"target":  {on("s", func(h *tar.Header) { h.Linkname = "d/g" }), []string{"s target"}},
		"type":    {on("s", func(h *tar.Header) { h.Typeflag = tar.TypeFifo }), []string{"s size", "s target", "s type"}},
		"no link": {on("l", func(h *tar.Header) {
			*h = tar.Header{Name: "l", Mode: 0o644, Uid: 1, PAXRecords: map[string]string{"SCHILY.xattr.user.x": "1"}}
		}), []string{"l inode"}},
		"root": {on("./", func(h *tar.Header) { h.Mode = 0o700 }), nil},
	} {
		t.Run(name, func(t *testing.T) {
			p.push(t, image(t, built(t, base(c.alter))), "other:1")
			p.convert(t, "other:1", "other:erofs", convert.Options{Replace: true})
			p.claim(t, "other:erofs", original, "it:claimed")
			src := p.open(t, "it:claimed")
			result, err := verify.Image(t.Context(), src, nil, verify.Options{Root: root})
			if err != nil {
				t.Fatal(err)
			}
			differs(t, result, c.want)
			if saw := len(result.Variants[0].Root) > 0; saw != (name == "root") {
				t.Errorf("of the root: %v", result.Variants[0].Root)
			}
		})
	}
}

// differs wants certain differences of the only variant, and an error for them.
func differs(t *testing.T, r *verify.Result, want []string) {
	t.Helper()
	var got []string
	for _, d := range r.Variants[0].Differences {
		got = append(got, d.Path+" "+d.Attr)
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("differences: got %q, want %q: %v", got, want, r.Variants[0].Differences)
	}
	if err := r.Err(); (err == nil) != (want == nil) {
		t.Errorf("error: %v", err)
	}
}

func on(name string, alter func(*tar.Header)) func(*tar.Header) {
	return func(h *tar.Header) {
		if h.Name == name {
			alter(h)
		}
	}
}

// claim publishes original with the variant at ref beside it, as if that were its own.
func (p place) claim(t *testing.T, ref string, original v1.Image, as string) {
	t.Helper()
	of, err := original.Digest()
	if err != nil {
		t.Fatal(err)
	}
	claims := mutate.Annotations(p.variant(t, ref), map[string]string{convert.AnnotationSource: of.String()}).(v1.Image)
	platform := corpus.Linux
	platform.OSFeatures = []string{erofs.OSFeature}
	p.push(t, corpus.Index(corpus.Entry(original, corpus.Linux), corpus.Entry(claims, platform)), as)
}

// halting is a source that stops the call when its second layer is asked for.
type halting struct {
	convert.Source
	after *atomic.Int64
	stop  context.CancelFunc
}

func (h halting) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if h.after.Add(-1) == 0 {
		h.stop()
	}
	return h.Source.Fetch(ctx, desc)
}

// TestInterrupted stops a call at each of its requests; nothing of it stays, and nothing of one
// that was killed before it.
func TestInterrupted(t *testing.T) {
	needRoot(t)
	p := newPlace(t)
	p.push(t, image(t, built(t, lower), built(t, changes)), "it:1")
	p.convert(t, "it:1", "it:erofs", convert.Options{})
	temp := t.TempDir()
	nothingMounted(t, temp)
	t.Setenv("TMPDIR", temp)
	abandoned := abandon(t, temp)
	for n, ended := int64(1), false; !ended; n++ {
		ctx, stop := context.WithCancel(t.Context())
		h := halting{p.open(t, "it:erofs"), new(atomic.Int64), stop}
		h.after.Store(n)
		_, err := verify.Image(ctx, h, nil, verify.Options{})
		if h.after.Load() > 0 { // there are no more requests
			ended = true
		} else if err == nil {
			t.Errorf("stopped at request %d it succeeds", n)
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("stopped at request %d: %v", n, err)
		}
		stop()
		left, err := filepath.Glob(filepath.Join(temp, "*"))
		if left = slices.DeleteFunc(left, func(name string) bool { return name == abandoned && !ended }); err != nil || len(left) > 0 {
			t.Errorf("stopped at request %d it leaves %q, %v", n, left, err)
		}
		t.Logf("stopped at request %d: %v", n, ended)
	}
}

// abandon leaves the root of a process that is gone.
func abandon(t *testing.T, temp string) (dir string) {
	t.Helper()
	dir = filepath.Join(temp, "lithify-verify-killed")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := stack.Open(t.Context(), dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	gone := exec.Command("true")
	if err := errors.Join(s.Close(), gone.Run()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "pid"), []byte(strconv.Itoa(gone.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestUnknownDialect: containerd 2.4 reads the media types of the draft not.
func TestUnknownDialect(t *testing.T) {
	needRoot(t)
	p := newPlace(t)
	p.push(t, image(t, built(t, lower)), "it:1")
	p.convert(t, "it:1", "it:spec", convert.Options{Dialect: erofs.DialectSpec})
	src := p.open(t, "it:spec")
	if _, err := verify.Image(t.Context(), src, nil, verify.Options{Root: t.TempDir()}); !errdefs.IsNotImplemented(err) {
		t.Errorf("got %v, want not implemented", err)
	}
}

// variant is an image that is one manifest.
func (p place) variant(t *testing.T, ref string) v1.Image {
	t.Helper()
	r, err := name.ParseReference(p.host + "/" + ref)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(r)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// TestRefused names what cannot be verified.
func TestRefused(t *testing.T) {
	p := newPlace(t)
	original := image(t, built(t, base(func(*tar.Header) {})))
	p.push(t, original, "it:1")
	p.convert(t, "it:1", "it:alone", convert.Options{Replace: true})
	for ref, why := range map[string]string{"it:1": "no variant", "it:alone": "not in"} {
		src := p.open(t, ref)
		_, err := verify.Image(t.Context(), src, nil, verify.Options{Root: filepath.Join(t.TempDir(), "none")})
		if refused, ok := errors.AsType[*convert.RefusedError](err); !ok || !strings.Contains(refused.Why, why) {
			t.Errorf("%s: got %v, want that it has %s", ref, err, why)
		}
	}
}
