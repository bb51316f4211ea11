// Command importer imports layers, the base first, into block CIMs and merges them, as
// hcsshim does it:
//
//	importer [-footer] [-clean] FOLDER LAYER.tar...
//
// It writes FOLDER\N\layer.vhd for each layer and, for more than one, FOLDER\merged\merged.vhd.
// With -clean it removes the block of a layer that cannot be imported.
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/Microsoft/hcsshim/pkg/cimfs"
	"github.com/Microsoft/hcsshim/pkg/ociwclayer/cim"
)

func main() {
	log.SetFlags(0)
	footer := flag.Bool("footer", false, "append the footer of a VHD")
	clean := flag.Bool("clean", false, "remove what an error left")
	flag.Parse()
	opts := []cim.BlockCIMLayerImportOpt{cim.WithLayerIntegrity()}
	if *footer {
		opts = append(opts, cim.WithVHDFooter())
	}
	if err := importAll(context.Background(), flag.Arg(0), flag.Args()[1:], *clean, opts); err != nil {
		log.Fatal(err)
	}
}

func importAll(ctx context.Context, dir string, tars []string, clean bool, opts []cim.BlockCIMLayerImportOpt) error {
	var layers []*cimfs.BlockCIM // the topmost first
	for i, tar := range tars {
		layer := block(filepath.Join(dir, strconv.Itoa(i), "layer.vhd"), "layer.cim")
		if err := importLayer(ctx, tar, layer, append(opts, cim.WithParentLayers(layers))); err != nil {
			if clean {
				err = errors.Join(err, os.Remove(layer.BlockPath))
			}
			return err
		}
		layers = slices.Insert(slices.Clone(layers), 0, layer)
	}
	if len(layers) < 2 {
		return nil
	}
	merged := block(filepath.Join(dir, "merged", "merged.vhd"), "merged.cim")
	return cim.MergeBlockCIMLayersWithOpts(ctx, layers, merged, opts...)
}

func importLayer(ctx context.Context, tar string, layer *cimfs.BlockCIM, opts []cim.BlockCIMLayerImportOpt) error {
	f, err := os.Open(tar)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = cim.ImportBlockCIMLayerWithOpts(ctx, f, layer, opts...)
	return err
}

func block(path, name string) *cimfs.BlockCIM {
	return &cimfs.BlockCIM{Type: cimfs.BlockCIMTypeSingleFile, BlockPath: path, CimName: name}
}
