// Command chain makes block CIMs of layers by cimfs.Chain, the base first, and prints them:
//
//	chain [-merge [-copies N]] [-continue N] FOLDER LAYER.tar...
//
// With -continue it begins anew above the first N, with nothing of them but their hives. With
// -copies the base is merged so many times more.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/lithify/lithify/cimfs"
)

func main() {
	cimfs.RunWriter()
	log.SetFlags(0)
	merge := flag.Bool("merge", false, "merge them")
	copies := flag.Int("copies", 0, "merge so many copies of the base, too")
	again := flag.Int("continue", 0, "begin anew above so many")
	flag.Parse()
	if err := run(context.Background(), flag.Arg(0), flag.Args()[1:], *merge, *copies, *again); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, dir string, tars []string, merge bool, copies, again int) error {
	var blocks []*cimfs.Block
	chain := cimfs.NewChain(dir)
	for _, tar := range tars {
		if again > 0 && chain.Depth() == again {
			var err error
			if chain, err = anew(chain, filepath.Join(dir, "anew")); err != nil {
				return err
			}
		}
		b, err := imported(ctx, chain, tar)
		if err != nil {
			return err
		}
		blocks = append(blocks, b)
	}
	if merge {
		more, err := copied(dir, blocks[0], copies)
		if err != nil {
			return err
		}
		b, err := cimfs.Merge(ctx, dir, append(more, blocks...))
		if err != nil {
			return err
		}
		blocks = append(blocks, b)
	}
	return json.NewEncoder(os.Stdout).Encode(blocks)
}

// copied makes other files of a block.
func copied(dir string, b *cimfs.Block, n int) (all []*cimfs.Block, err error) {
	raw, err := os.ReadFile(b.Path)
	if err != nil {
		return nil, err
	}
	for i := range n {
		c := &cimfs.Block{Path: filepath.Join(dir, fmt.Sprintf("copy-%0100d", i), cimfs.LayerFile)}
		if err := errors.Join(os.Mkdir(filepath.Dir(c.Path), 0o700), os.WriteFile(c.Path, raw, 0o600)); err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// anew is what another worker has of a chain.
func anew(c *cimfs.Chain, dir string) (*cimfs.Chain, error) {
	var hives bytes.Buffer
	if err := c.WriteHives(&hives); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	return cimfs.Continue(dir, c.Depth(), &hives)
}

func imported(ctx context.Context, c *cimfs.Chain, tar string) (*cimfs.Block, error) {
	f, err := os.Open(tar)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return c.Import(ctx, f)
}
