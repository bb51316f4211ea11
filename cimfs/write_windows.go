package cimfs

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/Microsoft/go-winio"
	hcscim "github.com/Microsoft/hcsshim/pkg/cimfs"
	"github.com/Microsoft/hcsshim/pkg/ociwclayer/cim"
)

// checkSDDL has Windows read a security descriptor that is a text, as hcsshim will.
func checkSDDL(text string) error {
	if _, err := winio.SddlToSecurityDescriptor(text); err != nil {
		return fmt.Errorf("%s is none: %w", paxSDDL, err)
	}
	return nil
}

// write has hcsshim write a CIM and seal it.
func (o order) write(ctx context.Context, tar io.Reader) (w written, err error) {
	if w.Writer, err = Library(); err != nil {
		return w, err
	}
	if len(o.Sources) > 0 {
		err = o.merge(ctx)
	} else {
		err = o.layer(ctx, tar)
	}
	if err != nil {
		return w, fmt.Errorf("hcsshim: %w", err)
	}
	w.RootHash, err = cim.GetIntegrityChecksum(ctx, o.File, "")
	return w, err
}

func (o order) layer(ctx context.Context, tar io.Reader) error {
	opts := []cim.BlockCIMLayerImportOpt{cim.WithLayerIntegrity()}
	if o.Hives != "" {
		// Of the parents hcsshim wants to know that there are some, and where the hives
		// of the topmost are.
		opts = append(opts, cim.WithParentLayers([]*hcscim.BlockCIM{single(filepath.Join(o.Hives, LayerFile), LayerName)}))
	}
	_, err := cim.ImportBlockCIMLayerWithOpts(ctx, tar, single(o.File, o.Name), opts...)
	return err
}

func (o order) merge(ctx context.Context) error {
	var sources []*hcscim.BlockCIM
	for _, file := range o.Sources {
		sources = append(sources, single(file, LayerName))
	}
	return cim.MergeBlockCIMLayersWithOpts(ctx, sources, single(o.File, o.Name), cim.WithLayerIntegrity())
}

func single(file, name string) *hcscim.BlockCIM {
	return &hcscim.BlockCIM{Type: hcscim.BlockCIMTypeSingleFile, BlockPath: file, CimName: name}
}
