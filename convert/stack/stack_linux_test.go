package stack_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/core/transfer"
	timage "github.com/containerd/containerd/v2/core/transfer/image"
	"github.com/containerd/containerd/v2/core/transfer/registry"
	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/lithify/lithify/convert/stack"
	"github.com/lithify/lithify/test/corpus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// victimEnv makes this program one that is killed while it has an image mounted: the
// root, and the image.
const victimEnv = "LITHIFY_STACK_VICTIM"

func TestMain(m *testing.M) {
	if what, ok := os.LookupEnv(victimEnv); ok {
		root, ref, _ := strings.Cut(what, " ")
		log.Fatal(victim(root, ref))
	}
	flag.Parse()
	os.Exit(m.Run())
}

func needRoot(t *testing.T) {
	t.Helper()
	if !*stack.Root || os.Getuid() != 0 {
		t.Skip("mounts images: run as root with -test.root")
	}
}

// needMkfs is for tests that unpack tar layers for EROFS: containerd's differ runs it.
func needMkfs(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("mkfs.erofs"); err != nil {
		t.Skipf("%v: run test/tools/install.sh and put its bin into PATH", err)
	}
}

var quiet = slog.New(slog.DiscardHandler)

func open(t *testing.T, root string) *stack.Stack {
	t.Helper()
	s, err := stack.Open(t.Context(), root, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if at := mounted(t, root); at != "" {
			t.Errorf("still mounted:\n%s", at)
		}
	})
	return s
}

// mounted is what /proc/mounts says of dir.
func mounted(t *testing.T, dir string) (lines string) {
	t.Helper()
	raw, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if strings.Contains(line, " "+dir+"/") {
			lines += line
		}
	}
	return lines
}

// pushed is a reference to an image of two layers in a registry of this process.
func pushed(t *testing.T) string {
	t.Helper()
	srv := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	ref := strings.TrimPrefix(srv.URL, "http://") + "/it:1"
	lower, lerr := corpus.Built(types.OCILayer, func(w *tar.Writer) error {
		return errors.Join(corpus.File(w, tar.Header{Name: "a", Mode: 0o644}, "lower"), corpus.File(w, tar.Header{Name: "b", Mode: 0o644}, "b"))
	})
	upper, uerr := corpus.Built(types.OCILayer, func(w *tar.Writer) error {
		return errors.Join(corpus.File(w, tar.Header{Name: "a", Mode: 0o600}, "upper"), w.WriteHeader(&tar.Header{Name: ".wh.b"}))
	})
	img, ierr := corpus.Image(corpus.Linux, []string{"/a"}, lower, upper)
	r, rerr := name.ParseReference(ref)
	if err := errors.Join(lerr, uerr, ierr, rerr); err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(r, img); err != nil {
		t.Fatal(err)
	}
	return ref
}

// from is an image in a registry, by containerd's own client.
func from(t *testing.T, ref string) *registry.OCIRegistry {
	t.Helper()
	r, err := registry.NewOCIRegistry(t.Context(), ref, registry.WithDefaultScheme("http"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var _ transfer.Transferrer = (*stack.Stack)(nil)

// files lists what is below the parts of root in which images lie.
func files(t *testing.T, root string) (names []string) {
	t.Helper()
	for _, pattern := range []string{"content/blobs/sha256/*", "*/snapshots/*", "views/*", "mounts/*"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, found...)
	}
	return names
}

// TestImage pulls an image for each snapshotter, mounts and reads it, pushes it, and
// nothing of it is left when its lease is over.
func TestImage(t *testing.T) {
	needRoot(t)
	needMkfs(t)
	for _, snapshotter := range []string{stack.Overlayfs, stack.EROFS} {
		t.Run(snapshotter, func(t *testing.T) {
			root, ref := t.TempDir(), pushed(t)
			s := open(t, root)
			ctx, release, err := s.Lease(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Pull(ctx, from(t, ref), ref, snapshotter); err != nil {
				t.Fatal(err)
			}
			dir, unmount, err := s.Mount(ctx, ref, snapshotter)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(dir, "a")); err != nil || string(got) != "upper" {
				t.Errorf("a is %q, %v", got, err)
			}
			if _, err := os.Stat(filepath.Join(dir, "b")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("b is there: %v", err)
			}
			if err := os.WriteFile(filepath.Join(dir, "c"), nil, 0o600); !errors.Is(err, syscall.EROFS) {
				t.Errorf("writing: got %v, want a read-only file system", err)
			}
			again := ref[:len(ref)-1] + "2"
			if err := s.Transfer(ctx, timage.NewStore(ref), from(t, again)); err != nil {
				t.Errorf("push: %v", err)
			}
			if got, want := digestOf(t, again), digestOf(t, ref); got != want {
				t.Errorf("pushed %s, want %s", got, want)
			}

			// A second lease keeps nothing of the first one's.
			_, other, err := s.Lease(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := other(); err != nil {
				t.Fatal(err)
			}
			if len(files(t, root)) == 0 {
				t.Error("nothing is left while the lease stands")
			}
			if err := errors.Join(unmount(), release()); err != nil {
				t.Fatal(err)
			}
			if left := files(t, root); len(left) > 0 {
				t.Errorf("left when the lease is over: %q", left)
			}
		})
	}
}

func digestOf(t *testing.T, ref string) string {
	t.Helper()
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	d, err := remote.Head(r)
	if err != nil {
		t.Fatal(err)
	}
	return d.Digest.String()
}

// victim mounts an image and waits to be killed.
func victim(root, ref string) error {
	ctx := context.Background()
	s, err := stack.Open(ctx, root, quiet)
	if err != nil {
		return err
	}
	if ctx, _, err = s.Lease(ctx); err != nil {
		return err
	}
	src, err := registry.NewOCIRegistry(ctx, ref, registry.WithDefaultScheme("http"))
	if err != nil {
		return err
	}
	if err := s.Pull(ctx, src, ref, stack.EROFS); err != nil {
		return err
	}
	if _, _, err := s.Mount(ctx, ref, stack.EROFS); err != nil {
		return err
	}
	fmt.Println("mounted")
	select {}
}

// TestKilled has a process killed that has a root, with an image mounted: until then
// the root is refused, and afterwards it is as new.
func TestKilled(t *testing.T) {
	needRoot(t)
	needMkfs(t)
	root := t.TempDir()
	if err := os.Chmod(root, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), victimEnv+"="+root+" "+pushed(t))
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "mounted\n" {
		t.Fatalf("victim says %q, %v", line, errors.Join(err, cmd.Wait()))
	}
	_, err = stack.Open(t.Context(), root, quiet)
	if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), root) || !strings.Contains(err.Error(), strconv.Itoa(cmd.Process.Pid)) {
		t.Errorf("second opener: got %v, want unavailable with root and process %d", err, cmd.Process.Pid)
	}
	if mounted(t, root) == "" || len(files(t, root)) == 0 {
		t.Error("the victim has nothing mounted")
	}
	if stack.Abandoned(root) {
		t.Error("the root of a process that lives is abandoned")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait() // it was killed
	if mounted(t, root) == "" {
		t.Error("nothing is mounted any more, which is not what is to be shown")
	}
	if !stack.Abandoned(root) {
		t.Error("the root of a process that was killed is not abandoned")
	}
	open(t, root)
	if at := mounted(t, root); at != "" {
		t.Errorf("mounted after it was opened again:\n%s", at)
	}
	if left := files(t, root); len(left) > 0 {
		t.Errorf("left of the victim: %q", left)
	}
}

// TestOthersDirectory: what is no stack is not touched.
func TestOthersDirectory(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "views")
	if err := os.WriteFile(mine, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := stack.Open(t.Context(), dir, quiet); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("got %v, want a failed precondition", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("the directory has %v, %v", left, err)
	}
}

// TestDegraded opens a stack on an overlayfs, which holds no other one.
func TestDegraded(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"lower", "upper", "work", "at"} {
		if err := os.Mkdir(at(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", at("lower"), at("upper"), at("work"))
	if err := unix.Mount("overlay", at("at"), "overlay", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at("at"), 0); err != nil {
			t.Error(err)
		}
	})
	var said bytes.Buffer
	s, err := stack.Open(t.Context(), at("at/root"), slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if got := said.String(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, "snapshotter=overlayfs") {
		t.Errorf("it said %q, want a warning that overlayfs is left out", got)
	}
	ctx, release, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ref := pushed(t)
	if err := s.Pull(ctx, from(t, ref), ref, stack.Overlayfs); err == nil || !strings.Contains(err.Error(), "cannot be used here") {
		t.Errorf("overlayfs: got %v, want that it cannot be used", err)
	}
	if err := s.Pull(ctx, from(t, ref), ref, ""); err != nil {
		t.Errorf("without unpacking: %v", err)
	}
	if err := errors.Join(release(), s.Close()); err != nil {
		t.Error(err)
	}
}

// TestTogether pulls one image by many at a time, each with a lease of its own: none
// loses what another one's end takes away.
func TestTogether(t *testing.T) {
	needRoot(t)
	needMkfs(t)
	root, ref := t.TempDir(), pushed(t)
	s := open(t, root)
	var g errgroup.Group
	for i := range 16 {
		snapshotter := []string{stack.Overlayfs, stack.EROFS}[i%2]
		g.Go(func() (err error) {
			ctx, release, err := s.Lease(t.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, release()) }()
			src, err := registry.NewOCIRegistry(ctx, ref, registry.WithDefaultScheme("http"))
			if err != nil {
				return err
			}
			if err := s.Pull(ctx, src, ref, snapshotter); err != nil {
				return err
			}
			dir, unmount, err := s.Mount(ctx, ref, snapshotter)
			if err != nil {
				return err
			}
			got, err := os.ReadFile(filepath.Join(dir, "a"))
			if err == nil && string(got) != "upper" {
				err = fmt.Errorf("a is %q", got)
			}
			return errors.Join(err, unmount())
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if left := files(t, root); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
