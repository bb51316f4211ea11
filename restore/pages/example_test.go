package pages_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/lithify/lithify/restore/archive"
	"github.com/lithify/lithify/restore/pages"
)

// Publishes two checkpoints of a process, of which the second has two pages more, and takes the
// second to a machine that has the first.
func Example() {
	ctx, registry := context.Background(), store{}
	tmp, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	memory := run{0x100000, strings.Repeat("?", 160)}
	first, second, there := filepath.Join(tmp, "first"), filepath.Join(tmp, "second"), filepath.Join(tmp, "there")
	checkpointed(first, memory)
	checkpointed(second, memory, run{0x900000, "ab"})

	one, err := pages.Split(ctx, first, nil, registry.create)
	if err != nil {
		log.Fatal(err)
	}
	if err := one.Save(first); err != nil {
		log.Fatal(err)
	}
	two, err := pages.Split(ctx, second, one, registry.create)
	if err != nil {
		log.Fatal(err)
	}
	registry.name() // pushed
	fmt.Println(len(two.Packs), "packs, of which the new one has", two.Packs[1].Size, "bytes")

	if err := two.Save(second); err != nil {
		log.Fatal(err)
	}
	c := &archive.Checkpoint{
		Format: archive.Containerd, ID: "0123", Name: "web", Runtime: "runc", Spec: []byte("{}"),
		Base: archive.Base{Name: "busybox:1.36", Digest: "sha256:1111111111111111111111111111111111111111111111111111111111111111"},
	}
	var layer bytes.Buffer
	if err := archive.Write(ctx, &layer, second, c, archive.WriteOptions{WithoutPages: true}); err != nil {
		log.Fatal(err)
	}

	if _, err := archive.Read(ctx, &layer, there, archive.Limits{}); err != nil {
		log.Fatal(err)
	}
	index, err := pages.Load(there, archive.Limits{})
	if err != nil {
		log.Fatal(err)
	}
	moved, err := index.Join(ctx, there, registry, first)
	if err != nil {
		log.Fatal(err)
	}
	images, err := archive.Validate(there)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(images.Pages, "pages,", moved.Local/4096, "were here,", moved.Fetched, "bytes came")
	// Output:
	// 2 packs, of which the new one has 22 bytes
	// 162 pages, 160 were here, 22 bytes came
}

func checkpointed(dir string, runs ...run) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		log.Fatal(err)
	}
	if err := processIn(dir, runs...); err != nil {
		log.Fatal(err)
	}
}
