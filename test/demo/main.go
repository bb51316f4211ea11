// Command demo runs lithify for real on what a fresh machine has: it makes an
// image of the Go toolchain's own tree, pushes it to a registry on a loopback
// port, converts it here and again through a pool, and shows what came out.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/erofs"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) != 2 {
		log.Fatal("usage: demo LITHIFY_BINARY")
	}
	if err := run(ctx, os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, lithify string) error {
	dir, err := os.MkdirTemp("", "lithify-demo-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Mkdir(filepath.Join(dir, "registry"), 0o700); err != nil {
		return err
	}
	blobs := ggcr.NewDiskBlobHandler(filepath.Join(dir, "registry"))
	server := httptest.NewServer(ggcr.New(ggcr.WithBlobHandler(blobs), ggcr.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	src := host + "/golang:1"

	fmt.Println("# an image of this machine's Go toolchain, pushed to", src)
	if err := pushToolchain(ctx, src); err != nil {
		return err
	}
	d := demo{ctx, lithify, append(os.Environ(), "LITHIFY_CONTEXT="+filepath.Join(dir, "context.json"))}
	out, err := d.lithify("convert", "--insecure", src, host+"/golang:1-erofs")
	if err != nil {
		return err
	}
	if err := show(ctx, strings.TrimSpace(out)); err != nil {
		return err
	}
	return d.pool(filepath.Join(dir, "pool"), src, host+"/golang:1-pool")
}

type demo struct {
	ctx    context.Context
	binary string
	env    []string
}

// lithify runs one command and shows it as a person would see it.
func (d demo) lithify(args ...string) (string, error) {
	fmt.Println("\n$ lithify", strings.Join(args, " "))
	cmd := exec.CommandContext(d.ctx, d.binary, args...)
	var out bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = d.env, io.MultiWriter(os.Stdout, &out), os.Stderr
	err := cmd.Run()
	return out.String(), err
}

// pool converts the same image through a queue.
func (d demo) pool(dir, src, dst string) error {
	fmt.Println("\n$ lithify serve --dir", dir, "&")
	serve := exec.CommandContext(d.ctx, d.binary, "serve", "--dir", dir)
	serve.Env, serve.Stderr = d.env, io.Discard
	serve.Cancel = func() error { return serve.Process.Signal(syscall.SIGTERM) }
	ready, err := serve.StdoutPipe()
	if err != nil {
		return err
	}
	if err := serve.Start(); err != nil {
		return err
	}
	defer func() {
		_ = serve.Process.Signal(syscall.SIGTERM)
		_ = serve.Wait()
	}()
	line := make([]byte, 256)
	n, err := ready.Read(line) // serve prints one line when the pool is up
	if err != nil {
		return fmt.Errorf("lithify serve did not come up: %w", err)
	}
	os.Stdout.Write(line[:n])
	go io.Copy(io.Discard, ready)
	if _, err := d.lithify("submit", "convert", "--wait", "--insecure", src, dst); err != nil {
		return err
	}
	if _, err := d.lithify("jobs", "list"); err != nil {
		return err
	}
	_, err = d.lithify("workers")
	return err
}

// show prints the index that was published and reads a file out of its EROFS
// layer: through the kernel where that is possible, else with go-erofs.
func show(ctx context.Context, ref string) error {
	digest, err := name.NewDigest(ref, name.Insecure)
	if err != nil {
		return err
	}
	index, err := remote.Index(digest, remote.WithContext(ctx))
	if err != nil {
		return err
	}
	im, err := index.IndexManifest()
	if err != nil {
		return err
	}
	fmt.Println("\n# the index, a variant beside the original:")
	for _, d := range im.Manifests {
		fmt.Printf("%-24s %s %s\n", d.Platform, d.Digest, d.Annotations[convert.AnnotationProfile])
	}
	image, err := index.Image(im.Manifests[len(im.Manifests)-1].Digest)
	if err != nil {
		return err
	}
	layers, err := image.Layers()
	if err != nil {
		return err
	}
	blob, err := layers[len(layers)-1].Compressed()
	if err != nil {
		return err
	}
	defer blob.Close()
	f, err := os.CreateTemp("", "lithify-demo-*.erofs")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	size, err := io.Copy(f, blob)
	if err != nil {
		return err
	}
	return readBack(f, size)
}

func readBack(f *os.File, size int64) error {
	dir, err := os.MkdirTemp("", "lithify-demo-mnt-*")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	how, fsys := "mounted by this kernel", os.DirFS(dir)
	if err := mountEROFS(f.Name(), dir); err != nil {
		how = fmt.Sprintf("read with go-erofs (no kernel mount: %v)", err)
		if fsys, err = erofs.Open(f); err != nil {
			return err
		}
	} else {
		defer unmount(dir)
	}
	version, err := fs.ReadFile(fsys, "usr/local/go/VERSION")
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(version), "\n")
	fmt.Printf("\n# the %d MB EROFS layer, %s: usr/local/go/VERSION says %q\n", size>>20, how, first)
	return nil
}
