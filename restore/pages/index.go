package pages

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/restore/archive"
)

// MediaType is that of a pack.
const MediaType = "application/vnd.lithify.checkpoint.pages.v1+zstd"

const (
	window   = 64 << 10  // of addresses, and so the most that a chunk has
	packSize = 256 << 20 // of a pack, but for its last chunk
	// maxPacks bounds how many earlier checkpoints a checkpoint leans on. Then one stands
	// alone again.
	maxPacks = 32
	maxIndex = 256 << 20 // bytes of JSON; some 90 a chunk
	version  = 1
)

// Index says where the pages of a checkpoint are.
type Index struct {
	Version int    `json:"version"`
	Packs   []Pack `json:"packs"`
	Files   []File `json:"files"`
}

// Pack is a blob of chunks.
type Pack struct {
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`
}

// Descriptor is the pack as a layer of a manifest.
func (p Pack) Descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: MediaType, Digest: p.Digest, Size: p.Size}
}

// File is one of CRIU's files of pages: its chunks, one after another.
type File struct {
	Name   string  `json:"name"`
	Chunks []Chunk `json:"chunks"`
}

// Chunk is some pages, or zeros if it has no size.
type Chunk struct {
	Sum    Sum   `json:"s,omitzero"`
	Length int64 `json:"l"`
	Pack   int   `json:"p,omitempty"`
	Offset int64 `json:"o,omitempty"`
	Size   int64 `json:"z,omitempty"` // compressed
}

// Sum is the SHA-256 of a chunk.
type Sum [sha256.Size]byte

// MarshalText implements encoding.TextMarshaler.
func (s Sum) MarshalText() ([]byte, error) { return base64.RawStdEncoding.AppendEncode(nil, s[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Sum) UnmarshalText(text []byte) error {
	b, err := base64.RawStdEncoding.DecodeString(string(text))
	if err == nil && len(b) != len(s) {
		err = fmt.Errorf("a sum has %d bytes, this one %d", len(s), len(b))
	}
	copy(s[:], b)
	return err
}

// Save writes the index into a directory, for the archive that is made of it.
func (x *Index) Save(dir string) error {
	raw, err := json.Marshal(x)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, archive.PagesFile), raw, 0o600)
}

// Load reads the index in a directory that archive.Read filled. What is in it is no
// more to be trusted than the archive; that it fits together is checked.
func Load(dir string, limits archive.Limits) (_ *Index, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.Open(archive.PagesFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var x Index
	if err := json.NewDecoder(io.LimitReader(f, maxIndex)).Decode(&x); err != nil {
		return nil, refused("it is no JSON of an index of pages: %w", err)
	}
	return &x, x.check(limits)
}

// refused is an error of the index.
func refused(why string, args ...any) error {
	return &archive.EntryError{Name: archive.PagesFile, Reason: "fetch the checkpoint again", Err: fmt.Errorf(why, args...)}
}

var fileName = regexp.MustCompile(`^(` + archive.ImagesDir + `|` + archive.ParentDir + `)/pages-[0-9]+\.img$`)

func (x *Index) check(limits archive.Limits) error {
	if x.Version != version {
		return refused("it is of version %d, and this lithify reads version %d", x.Version, version)
	}
	for _, p := range x.Packs {
		if err := p.Digest.Validate(); err != nil || p.Size < 1 {
			return refused("pack %q of %d bytes", p.Digest, p.Size)
		}
	}
	seen, total := map[string]bool{}, int64(0)
	for _, f := range x.Files {
		if !fileName.MatchString(f.Name) || seen[f.Name] {
			return refused("file %q, of which there is none, or one already", f.Name)
		}
		seen[f.Name] = true
		for _, c := range f.Chunks {
			if err := x.checkChunk(c); err != nil {
				return err
			}
			total += c.Length
		}
	}
	if most := cmp.Or(limits.Bytes, archive.DefaultBytes); total > most {
		return &archive.LimitError{Name: archive.PagesFile, Limit: "bytes of memory", Max: most}
	}
	return nil
}

func (x *Index) checkChunk(c Chunk) error {
	switch {
	case c.Length < 1 || c.Length > window:
		return refused("a chunk of %d bytes", c.Length)
	case c.Size == 0:
		return nil
	case c.Pack < 0 || c.Pack >= len(x.Packs):
		return refused("a chunk of pack %d of %d", c.Pack, len(x.Packs))
	case c.Size < 0 || c.Size > 2*window || c.Offset < 0 || c.Offset > x.Packs[c.Pack].Size-c.Size:
		return refused("a chunk that reaches out of its pack")
	}
	return nil
}

// Size is how much memory the chunks are.
func (x *Index) Size() int64 {
	n := int64(0)
	for _, f := range x.Files {
		for _, c := range f.Chunks {
			n += c.Length
		}
	}
	return n
}

var errDamaged = errors.Join(errors.New("a chunk is not what its name says; fetch the checkpoint again"), errdefs.ErrDataLoss)
