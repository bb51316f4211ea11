package registry

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
)

const (
	// maxArchiveEntries bounds the memory for a tar of a hundred million empty
	// files. An image has three entries for each layer at most.
	maxArchiveEntries = 100_000
	// maxLinks ends a circle of links; docker save makes one step.
	maxLinks = 10
)

// archive is an image in a tar file, which is read where it lies: its entries'
// places are looked up once, and each Fetch opens the file by itself.
type archive struct {
	name  string
	file  string
	desc  ocispec.Descriptor
	blobs map[digest.Digest]section
	made  map[digest.Digest][]byte // a manifest that is not in the file
	index *layoutIndex             // nil without one
}

var _ convert.Source = (*archive)(nil)

// section is the place of an entry's bytes in the file.
type section struct {
	off, size int64
	link      string // where a link leads, size and off are then 0
}

func (a *archive) Name() string { return a.name }

// Root was found when the archive was opened.
func (a *archive) Root(context.Context) (ocispec.Descriptor, error) { return a.desc, nil }

func (a *archive) Has(_ context.Context, desc ocispec.Descriptor) (bool, error) {
	_, ok := a.blobs[desc.Digest]
	return ok || a.made[desc.Digest] != nil, nil
}

func (a *archive) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if raw, ok := a.made[desc.Digest]; ok {
		return bounded(io.NopCloser(bytes.NewReader(raw)), desc), nil
	}
	s, ok := a.blobs[desc.Digest]
	if !ok {
		return nil, absent("fetch %s from %s: the archive does not hold it", desc.Digest, a.name)
	}
	rc, err := openSection(a.file, s, 0, s.size)
	if err != nil {
		return nil, fmt.Errorf("fetch %s from %s: %w", desc.Digest, a.name, err)
	}
	return bounded(rc, desc), nil
}

// FetchRange opens n bytes of a blob from off.
func (a *archive) FetchRange(_ context.Context, desc ocispec.Descriptor, off, n int64) (io.ReadCloser, error) {
	if err := checkRange(desc, off, n); err != nil {
		return nil, fmt.Errorf("fetch from %s: %w", a.name, err)
	}
	if n == 0 {
		return http.NoBody, nil
	}
	s, ok := a.blobs[desc.Digest]
	if !ok {
		return nil, absent("fetch %s from %s: the archive does not hold it", desc.Digest, a.name)
	}
	return openSection(a.file, s, off, n)
}

func (a *archive) Referrers(ctx context.Context, dgst digest.Digest) ([]ocispec.Descriptor, error) {
	if a.index == nil {
		return nil, nil
	}
	found, err := a.index.referrers(ctx, dgst, func(desc ocispec.Descriptor) ([]byte, error) {
		rc, err := a.Fetch(ctx, desc)
		if err != nil {
			return nil, err
		}
		defer rc.Close()
		return readManifest(rc)
	})
	if err != nil {
		return nil, fmt.Errorf("list referrers of %s in %s: %w", dgst, a.name, err)
	}
	return found, nil
}

func openSection(file string, s section, off, n int64) (io.ReadCloser, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, missing(err)
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, s.off+off, min(n, s.size-off)), f}, nil
}

// entries are a tar's regular files and links by their cleaned names. Of two
// with one name the later counts, as when a tar is unpacked.
type entries map[string]section

// openArchive reads the tar's headers. Nothing is unpacked.
func openArchive(p place) (string, entries, error) {
	file, err := filepath.Abs(p.path)
	if err != nil {
		return "", nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return "", nil, missing(err)
	}
	defer f.Close()
	if err := uncompressed(f); err != nil {
		return "", nil, err
	}
	e, err := readEntries(f)
	return file, e, err
}

func uncompressed(f *os.File) error {
	head := make([]byte, 6)
	if _, err := f.ReadAt(head, 0); err != nil && err != io.EOF {
		return err
	}
	if c := compression(head); c != "" {
		return invalid("the archive is compressed with %s, uncompress it first", c)
	}
	return nil
}

// compression names what a file's first bytes say it is, empty for none known.
func compression(head []byte) string {
	for name, magic := range map[string]string{
		"gzip": "\x1f\x8b", "zstd": "\x28\xb5\x2f\xfd", "xz": "\xfd7zXZ\x00",
	} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return name
		}
	}
	return ""
}

// readEntries depends on archive/tar reading no further than it needs: after
// Next the file stands at the entry's first byte, and the Next after it fails if
// the file ends before the entry does.
func readEntries(f io.ReadSeeker) (entries, error) {
	found := entries{}
	tr := tar.NewReader(f)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return found, nil
		}
		if err != nil {
			if _, disk := errors.AsType[*fs.PathError](err); disk {
				return nil, fmt.Errorf("read archive: %w", err)
			}
			return nil, invalid("read archive: %v", err)
		}
		off, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if len(found) >= maxArchiveEntries {
			return nil, invalid("read archive: more than %d entries", maxArchiveEntries)
		}
		if err := found.add(h, off); err != nil {
			return nil, err
		}
	}
}

func (e entries) add(h *tar.Header, off int64) error {
	name := path.Clean(h.Name)
	switch h.Typeflag {
	case tar.TypeReg:
		if isSparse(h) {
			return invalid("read archive: %.80q is sparse", h.Name)
		}
		e[name] = section{off: off, size: h.Size}
	case tar.TypeSymlink:
		e[name] = section{link: path.Join(path.Dir(name), h.Linkname)}
	case tar.TypeLink:
		e[name] = section{link: path.Clean(h.Linkname)}
	case tar.TypeGNUSparse:
		return invalid("read archive: %.80q is sparse", h.Name)
	}
	return nil
}

// isSparse knows the PAX form, whose size is not that of its bytes.
func isSparse(h *tar.Header) bool {
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// find follows links to a file's bytes.
func (e entries) find(name string) (section, error) {
	name = path.Clean(name)
	for range maxLinks {
		s, ok := e[name]
		if !ok {
			return section{}, absent("the archive has no %.80q", name)
		}
		if s.link == "" {
			return s, nil
		}
		name = s.link
	}
	return section{}, invalid("%.80q leads in a circle", name)
}

// document reads a small file of the archive.
func (e entries) document(file, name string) ([]byte, error) {
	s, err := e.find(name)
	if err != nil {
		return nil, err
	}
	rc, err := openSection(file, s, 0, s.size)
	if err != nil {
		return nil, err
	}
	raw, err := readManifest(rc)
	return raw, errors.Join(err, rc.Close())
}

// layoutBlobs are the files that an OCI layout in the archive has for blobs.
func (e entries) layoutBlobs() map[digest.Digest]section {
	blobs := map[digest.Digest]section{}
	for name := range e {
		alg, hex, ok := strings.Cut(strings.TrimPrefix(name, ocispec.ImageBlobsDir+"/"), "/")
		d := digest.NewDigestFromEncoded(digest.Algorithm(alg), hex)
		if !ok || !strings.HasPrefix(name, ocispec.ImageBlobsDir+"/") || d.Validate() != nil {
			continue
		}
		if s, err := e.find(name); err == nil {
			blobs[d] = s
		}
	}
	return blobs
}

func openOCIArchive(p place) (*archive, error) {
	file, e, err := openArchive(p)
	if err != nil {
		return nil, fmt.Errorf("open oci-archive:%s: %w", p.path, err)
	}
	a, err := layoutArchive(file, e, p)
	if err != nil {
		return nil, fmt.Errorf("open oci-archive:%s: %w", p.path, err)
	}
	return a, nil
}

// layoutArchive is an image of the OCI layout in an archive.
func layoutArchive(file string, e entries, p place) (*archive, error) {
	raw, err := e.document(file, indexFile)
	if err != nil {
		return nil, err
	}
	a := &archive{name: placeName(p.scheme, file, p.tag, p.digest), file: file, blobs: e.layoutBlobs()}
	if a.index, err = parseLayoutIndex(raw); err != nil {
		return nil, err
	}
	a.desc, err = chosen(a.index, p.tag, p.digest, func(d digest.Digest) ([]byte, error) {
		return e.document(file, blobPath(d))
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}
