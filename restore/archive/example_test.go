package archive_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"github.com/lithify/lithify/restore/archive"
)

// Unpacks an archive, whoever made it, and looks whether it is fit to be restored.
func Example() {
	tmp, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	dir := filepath.Join(tmp, "ck")

	c, err := archive.Read(context.Background(), exampleArchive(), dir, archive.Limits{Bytes: 1 << 30})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.Name, "of", c.Format, "on", c.Base.Digest)

	images, err := archive.Validate(dir)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(images.Processes[0].Command, images.Pages, "pages, stood still for", images.Dump.Frozen)

	spec, err := archive.Derive(c.Spec)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(spec.Args, spec.EnvNames)
	// Output:
	// web of containerd on sha256:1111111111111111111111111111111111111111111111111111111111111111
	// tiny 2 pages, stood still for 1.5ms
	// [sh -c sleep 1] [A TOKEN]
}

// Makes an archive for Podman out of one of containerd's.
func ExampleWrite() {
	ctx := context.Background()
	tmp, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	dir := filepath.Join(tmp, "ck")
	c, err := archive.Read(ctx, exampleArchive(), dir, archive.Limits{})
	if err != nil {
		log.Fatal(err)
	}

	err = archive.Write(ctx, io.Discard, dir, c, archive.WriteOptions{Format: archive.Podman})
	fmt.Println(err)
	c.Base.ID = "sha256:2222222222222222222222222222222222222222222222222222222222222222" // of the registry
	err = archive.Write(ctx, io.Discard, dir, c, archive.WriteOptions{Format: archive.Podman})
	fmt.Println(err)
	// Output:
	// write a checkpoint of podman: its reader needs the ID of the base image, which is the digest of its config: failed precondition
	// <nil>
}

// Says why a checkpoint of a newer machine cannot be restored on this one.
func ExampleHost_CanRestore() {
	here := archive.Host{Arch: "amd64", Kernel: "6.1.0-40-amd64", CRIU: "4.1.1", CPU: archive.CPU{Model: "EPYC 7B12", Features: []string{"avx2"}}}
	there := archive.Host{Arch: "amd64", Kernel: "6.12.48", CRIU: "4.1.1", CPU: archive.CPU{Features: []string{"avx2", "avx512f"}}}
	for _, reason := range here.CanRestore(there) {
		fmt.Println(reason)
	}
	// Output:
	// kernel: it was dumped on Linux 6.12.48 and this host has the older 6.1.0-40-amd64
	// cpu: it may use avx512f, which this processor (EPYC 7B12) has not
}

func exampleArchive() io.Reader {
	b, err := tarOf(append(containerdArchive(), tinyImages()...)...)
	if err != nil {
		log.Fatal(err)
	}
	return bytes.NewReader(b)
}
