// Command chain makes block CIMs of layers by cimfs.Chain, the base first, and prints them:
//
//	chain [-merge] [-continue N] FOLDER LAYER.tar...
//
// With -continue it begins anew above the first N, with nothing of them but their hives.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"log"
	"os"
	"path/filepath"

	"github.com/lithify/lithify/cimfs"
)

func main() {
	cimfs.RunWriter()
	log.SetFlags(0)
	merge := flag.Bool("merge", false, "merge them")
	again := flag.Int("continue", 0, "begin anew above so many")
	flag.Parse()
	if err := run(context.Background(), flag.Arg(0), flag.Args()[1:], *merge, *again); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, dir string, tars []string, merge bool, again int) error {
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
		b, err := cimfs.Merge(ctx, dir, blocks)
		if err != nil {
			return err
		}
		blocks = append(blocks, b)
	}
	return json.NewEncoder(os.Stdout).Encode(blocks)
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
