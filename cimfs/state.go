package cimfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
)

// MediaTypeHives is what [Chain.WriteHives] writes, compressed or not: a tar of the five hives
// Hives/SYSTEM_BASE and so on, without owners or times.
const MediaTypeHives = "application/vnd.lithify.windows.hives.v1.tar"

// maxHive bounds one. The largest of Windows' own are below 200 MiB.
const maxHive = 1 << 30

// inherit makes a directory of what the registry is above the layer in dir: its own hives, and
// its parent's where it has none. hcsshim looks for all of a parent's in one directory, and
// gives up where a layer with changes follows one without.
func (c *Chain) inherit(dir, state string) error {
	if err := os.MkdirAll(filepath.Join(state, hivesDir), 0o700); err != nil {
		return err
	}
	for _, h := range hives {
		own := filepath.Join(dir, hivesDir, h.base)
		if _, err := os.Stat(own); errors.Is(err, os.ErrNotExist) && c.hives != "" {
			own = filepath.Join(c.hives, hivesDir, h.base)
		}
		if err := os.Link(own, filepath.Join(state, hivesDir, h.base)); err != nil {
			return err
		}
	}
	return nil
}

func writeHives(w io.Writer, dir string) error {
	tw := tar.NewWriter(w)
	for _, h := range hives {
		if err := addFile(tw, filepath.Join(dir, hivesDir, h.base), hivesDir+"/"+h.base); err != nil {
			return err
		}
	}
	return tw.Close()
}

func addFile(tw *tar.Writer, file, name string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := tw.WriteHeader(&tar.Header{Name: name, Size: info.Size(), Mode: 0o600, Format: tar.FormatUSTAR}); err != nil {
		return err
	}
	_, err = io.Copy(tw, f)
	return err
}

// readHives reads what writeHives has written, and nothing else.
func readHives(r io.Reader, dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, hivesDir), 0o700); err != nil {
		return err
	}
	tr := tar.NewReader(r)
	for _, want := range hives {
		h, err := tr.Next()
		if err != nil {
			return fmt.Errorf("%s: %w: %w", want.base, err, errdefs.ErrInvalidArgument)
		}
		if h.Name != hivesDir+"/"+want.base || h.Typeflag != tar.TypeReg || h.Size > maxHive {
			return fmt.Errorf("%s of %d bytes where %s should be: %w", h.Name, h.Size, want.base, errdefs.ErrInvalidArgument)
		}
		if err := extract(tr, filepath.Join(dir, hivesDir, want.base)); err != nil {
			return err
		}
	}
	if _, err := tr.Next(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("more than five hives: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}

func extract(r io.Reader, file string) (err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(f, r)
	return err
}
