package cimfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// What things are called. The name of a CIM is part of what its root hash is of, and
// policies of confidential containers have the hashes of these names; containerd's snapshotter
// looks for these files.
const (
	LayerName  = "layer.cim"
	MergedName = "merged.cim"
	LayerFile  = "layer.vhd"
	MergedFile = "merged.vhd"
)

// Block is a block CIM: a sealed file system in a file, which has no VHD footer.
type Block struct {
	Path     string        `json:"-"`               // of the file
	Name     string        `json:"name"`            // of the CIM in it: LayerName or MergedName
	Digest   digest.Digest `json:"digest"`          // of the file
	Size     int64         `json:"size"`            // of the file, in bytes
	RootHash string        `json:"rootHash"`        // that it is sealed with: 32 bytes in hex
	Layer    *Layer        `json:"layer,omitempty"` // what it was made of; nil for one that is merged
	Writer   Writer        `json:"writer"`
}

// Writer is what wrote a CIM. Microsoft does not promise that one version writes what another
// does.
type Writer struct {
	Library string `json:"library"` // cimwriter.dll or cimfs.dll
	Version string `json:"version"` // of its file
	Build   uint32 `json:"build"`   // of Windows
}

// String is the writer in an annotation.
func (w Writer) String() string {
	return fmt.Sprintf("%s %s on build %d", w.Library, w.Version, w.Build)
}

// emulatedMagic begins what this project's tests write in place of a block CIM.
const emulatedMagic = "EMUCIM1 "

// ErrEmulated is of bytes that are no block CIM, whatever their media type is.
var ErrEmulated = fmt.Errorf("these are bytes of lithify's tests and no block CIM: %w", errdefs.ErrInvalidArgument)

// Emulated reports whether what r reads begins as what lithify's tests have for block CIMs
// does. Nothing mounts that.
func Emulated(r io.Reader) (bool, error) {
	head := make([]byte, len(emulatedMagic))
	if _, err := io.ReadFull(r, head); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return false, nil
		}
		return false, err
	}
	return bytes.Equal(head, []byte(emulatedMagic)), nil
}

// CheckReal refuses what is [Emulated], with an ErrEmulated. Programs that are built for this
// project's tests take it.
func CheckReal(r io.Reader) error {
	emulated, err := Emulated(r)
	if err == nil && emulated && !allowEmulated {
		err = ErrEmulated
	}
	return err
}

// measure fills in what is known of the file alone.
func (b *Block) measure() (err error) {
	f, err := os.Open(b.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := CheckReal(f); err != nil {
		return fmt.Errorf("what the writer's library made: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	b.Size = info.Size()
	b.Digest, err = digest.FromReader(f)
	return err
}
