package checkpoint

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/restore/archive"
	"github.com/lithify/lithify/restore/encrypt"
	"github.com/lithify/lithify/restore/image"
	"github.com/lithify/lithify/restore/pages"
)

// split cuts the memory in dir into packs, but for what a checkpoint has that dst names now.
// The packs can be read until remove is called.
func (o Options) split(ctx context.Context, dst convert.Target, dir string) (packs []image.Blob, remove func() error, err error) {
	var files []*convert.Scratch
	remove = func() (err error) {
		for _, f := range files {
			err = errors.Join(err, f.Close())
		}
		return err
	}
	create := func() (io.WriteCloser, error) {
		f, err := convert.TempFile(o.TempDir)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
		return struct {
			io.Writer
			io.Closer
		}{f, io.NopCloser(nil)}, nil
	}
	index, err := pages.Split(ctx, dir, o.previous(ctx, dst), create)
	if err == nil {
		err = index.Save(dir)
	}
	if err != nil {
		return nil, nil, errors.Join(err, remove())
	}
	old := len(index.Packs) - len(files)
	for i, p := range index.Packs {
		b := image.Blob{Descriptor: p.Descriptor(), DiffID: p.Digest}
		if i >= old {
			f := files[i-old]
			b.Open = func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(f, 0, p.Size)), nil }
		}
		packs = append(packs, b)
	}
	return packs, remove, nil
}

// previous is the index of the checkpoint that dst names now; nil if there is none that
// could be leaned on, whyever: then all is moved. None is if one of the two is encrypted: its packs
// have keys of their own.
func (o Options) previous(ctx context.Context, dst convert.Target) *pages.Index {
	if len(o.Recipients) > 0 {
		return nil
	}
	img, err := image.Open(ctx, dst)
	if err != nil || len(img.Packs) == 0 || slices.ContainsFunc(img.Packs, encrypt.Is) {
		return nil
	}
	for _, p := range img.Packs {
		if has, err := dst.Has(ctx, p); !has || err != nil {
			return nil
		}
	}
	layer, err := img.Archive(ctx)
	if err != nil {
		return nil
	}
	defer layer.Close()
	dir, err := os.MkdirTemp(o.TempDir, "lithify-previous-")
	if err != nil {
		return nil
	}
	defer os.RemoveAll(dir)
	if _, err := archive.Read(ctx, layer, dir, archive.Limits{}); err != nil {
		return nil
	}
	index, err := pages.Load(dir, archive.Limits{})
	if err != nil {
		return nil
	}
	return index
}
