package cimfs

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// Op is a call of the CIM API.
type Op string

// The calls, and the functions of cimwriter.dll, or cimfs.dll, that they are.
const (
	OpFile      Op = "file"       // CimCreateFile, CimWriteStream and CimCloseStream
	OpStream    Op = "stream"     // CimCreateAlternateStream, CimWriteStream and CimCloseStream
	OpLink      Op = "link"       // CimCreateHardLink
	OpMergeLink Op = "merge-link" // CimCreateMergeLink
	OpTombstone Op = "tombstone"  // CimTombstoneFile
)

// Call is one of the calls that make a CIM of a layer.
type Call struct {
	Op   Op     `json:"op"`
	Path string `json:"path"` // in the CIM, with backslashes
	// Target is what a link names.
	Target string `json:"target,omitempty"`

	// Of files: what CIMFS_FILE_METADATA has. Times are FILETIMEs, tenths of a microsecond
	// since 1601.
	Attributes     uint32 `json:"attributes,omitempty"`
	Size           int64  `json:"size,omitempty"` // of streams, too, in bytes
	CreationTime   int64  `json:"creationTime,omitempty"`
	LastWriteTime  int64  `json:"lastWriteTime,omitempty"`
	ChangeTime     int64  `json:"changeTime,omitempty"`
	LastAccessTime int64  `json:"lastAccessTime,omitempty"`
	// SecurityDescriptor is a self-relative SECURITY_DESCRIPTOR. Of a layer that has it in
	// words, as those of before 2017, Windows makes one, and SDDL has the words.
	SecurityDescriptor []byte `json:"securityDescriptor,omitempty"`
	SDDL               string `json:"sddl,omitempty"`
	Reparse            []byte `json:"reparse,omitempty"`            // REPARSE_DATA_BUFFER
	ExtendedAttributes []byte `json:"extendedAttributes,omitempty"` // FILE_FULL_EA_INFORMATION

	// Digest is of the content of a file or stream. A hive that is merged of the parent's and
	// of this layer's has none, nor a Size: it is known where it is merged.
	Digest digest.Digest `json:"digest,omitempty"`
	Merged bool          `json:"merged,omitempty"`
}

// String is the call in a line.
func (c Call) String() string {
	switch c.Op {
	case OpLink, OpMergeLink:
		return fmt.Sprintf("%s %s -> %s", c.Op, c.Path, c.Target)
	case OpFile:
		s := fmt.Sprintf("%s %s attributes=%#x size=%d", c.Op, c.Path, c.Attributes, c.Size)
		if c.Merged {
			s += " merged"
		}
		if len(c.Reparse) > 0 {
			s += fmt.Sprintf(" reparse=%d", len(c.Reparse))
		}
		if len(c.ExtendedAttributes) > 0 {
			s += fmt.Sprintf(" ea=%d", len(c.ExtendedAttributes))
		}
		return s
	}
	return fmt.Sprintf("%s %s", c.Op, c.Path)
}

// Problem is something in a layer that the writer does not take, or not as it is.
type Problem struct {
	Path string `json:"path"`
	Text string `json:"text"`
	// Refused is false of what becomes a CIM all the same, but not as one might think.
	Refused bool `json:"refused"`
}

// maxProblems is how many are told.
const maxProblems = 100

// Layer is what a plan says of all of a layer.
type Layer struct {
	DiffID   digest.Digest `json:"diffID"` // of the tar
	Calls    int64         `json:"calls"`
	Files    int64         `json:"files"` // directories too
	Bytes    int64         `json:"bytes"` // of files and streams
	Links    int64         `json:"links"`
	Removed  int64         `json:"removed"`            // tombstones
	Deltas   []string      `json:"deltas,omitempty"`   // hives that the parent's are merged with
	Problems []Problem     `json:"problems,omitempty"` // the first hundred
	Refused  int           `json:"refused,omitempty"`  // how many the writer does not take
}

// Err is why the layer cannot become a CIM, an errdefs.ErrInvalidArgument; nil if it can.
func (l *Layer) Err() error {
	i := slices.IndexFunc(l.Problems, func(p Problem) bool { return p.Refused })
	if i < 0 {
		return nil
	}
	p, more := l.Problems[i], ""
	if l.Refused > 1 {
		more = fmt.Sprintf(" (and %d more, see lithify plan-cim)", l.Refused-1)
	}
	return fmt.Errorf("%s: %s%s: %w", p.Path, p.Text, more, errdefs.ErrInvalidArgument)
}

// maxEntries bounds the memory of a plan, which remembers the names of a layer: Windows'
// largest have some hundred thousand.
const maxEntries = 4 << 20

// Plan reads a layer, an uncompressed tar, and has emit called with each call that makes a
// CIM of it. base is whether the layer is the lowest of its image: this has whole hives where
// others have what differs from their parent's.
//
// What a writer does not take is a [Problem] of the result, and not an error: these are a tar
// that cannot be read and what emit returns. The order and the contents are those of hcsshim
// v0.15.0, whose source is pkg/ociwclayer/cim and internal/wclayer/cim, and which test/wine
// compares it with.
func Plan(ctx context.Context, r io.Reader, base bool, emit func(Call) error) (*Layer, error) {
	whole, from := sha256.New(), &heard{Reader: r}
	r = io.TeeReader(from, whole)
	p := &plan{from: from, base: base, emit: emit, names: make(map[string]entry), added: make(map[string]bool)}
	if err := p.read(ctx, tar.NewReader(r)); err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, r); err != nil { // what is behind the tar's end is of the layer
		return nil, err
	}
	if err := p.finish(); err != nil {
		return nil, err
	}
	p.layer.DiffID = digest.NewDigest(digest.SHA256, whole)
	return &p.layer, nil
}

// plan is a layer of which a part was read.
type plan struct {
	from  *heard
	base  bool
	emit  func(Call) error
	layer Layer

	names map[string]entry // by folded path: what the CIM has
	added map[string]bool  // paths as written that a hard link may name
	last  string           // the file to which streams may be added; "" if none
	held  int64            // bytes of the names in both
	later []Call           // what hcsshim puts off until it has seen all of the layer
}

func (p *plan) read(ctx context.Context, tr *tar.Reader) error {
	for n := 0; ; n++ {
		h, err := tr.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("layer: %w", p.ofTar(err))
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case n == maxEntries:
			return fmt.Errorf("layer has more than %d entries: %w", maxEntries, errdefs.ErrInvalidArgument)
		}
		if err := p.entry(h, tr); err != nil {
			return fmt.Errorf("layer: %q: %w", h.Name, p.ofTar(err))
		}
	}
}

// heard is a reader that remembers its error.
type heard struct {
	io.Reader
	err error
}

func (h *heard) Read(b []byte) (int, error) {
	n, err := h.Reader.Read(b)
	if err != nil && err != io.EOF {
		h.err = err
	}
	return n, err
}

// ofTar has what package tar says of its input be an errdefs.ErrInvalidArgument, and leaves what
// was said of the input by who reads that.
func (p *plan) ofTar(err error) error {
	if p.from.err == nil && (errors.Is(err, tar.ErrHeader) || errors.Is(err, tar.ErrFieldTooLong) || errors.Is(err, io.ErrUnexpectedEOF)) {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return err
}

// entry is one of the tar's.
func (p *plan) entry(h *tar.Header, content io.Reader) error {
	if err := p.hold(h); err != nil {
		return err
	}
	dir, name := path.Split(h.Name)
	if strings.HasPrefix(name, whiteout) {
		p.last = ""
		return p.tombstone(h.Name, dir, name[len(whiteout):])
	}
	p.checkName(h.Name)
	switch {
	case h.Typeflag == tar.TypeLink:
		p.last = ""
		p.checkColon(h.Name)
		p.checkName(h.Linkname)
		return p.link(windowsPath(h.Name), windowsPath(h.Linkname))
	case h.Typeflag == tar.TypeReg && p.last != "" && strings.HasPrefix(h.Name, p.last+":"):
		return p.stream(h, content)
	}
	p.last = h.Name
	return p.file(h, content)
}

// Whiteouts, as image-spec has them.
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// maxHeld bounds the bytes of names that a plan remembers. Those of Windows' largest layers
// have some ten million.
const maxHeld = 1 << 30

// hold refuses at once what would take memory, or a disk, that the layer itself does not take.
func (p *plan) hold(h *tar.Header) error {
	for k := range h.PAXRecords {
		// hcsshim would write the holes.
		if strings.HasPrefix(k, "GNU.sparse.") {
			return fmt.Errorf("a sparse file, which layers of Windows have not: %w", errdefs.ErrInvalidArgument)
		}
	}
	if tooLong(h.Name) || tooLong(h.Linkname) {
		return fmt.Errorf("a path of more than %d characters: %w", maxPath, errdefs.ErrInvalidArgument)
	}
	if p.held += int64(len(h.Name) + len(h.Linkname)); p.held > maxHeld {
		return fmt.Errorf("names of more than %d bytes: %w", maxHeld, errdefs.ErrInvalidArgument)
	}
	return nil
}

// tombstone removes a file of the layers below.
func (p *plan) tombstone(whole, dir, name string) error {
	switch whole {
	case dir + opaque:
		p.refuse(whole, "an opaque directory: layers of Windows have none")
	case dir + whiteout:
		p.refuse(whole, "a whiteout of no name")
	}
	p.checkColon(dir + name)
	p.checkName(dir + name)
	return p.call(Call{Op: OpTombstone, Path: windowsPath(path.Join(dir, name))})
}

// file adds one, or puts it off.
func (p *plan) file(h *tar.Header, content io.Reader) error {
	c, err := fileOf(h)
	if err != nil {
		p.refuse(h.Name, err.Error())
	}
	p.checkFile(h, c)
	if h.Typeflag == tar.TypeReg {
		if c.Digest, err = digest.FromReader(content); err != nil {
			return err
		}
		p.layer.Bytes += c.Size
	}
	p.layer.Files++
	// hcsshim looks for the target of a link under the name that the tar has.
	p.added[windowsPath(h.Name)] = true
	if apart(c.Path) {
		p.later = append(p.later, c)
		if hive := deltaOf(c.Path); hive != "" {
			p.layer.Deltas = append(p.layer.Deltas, hive)
		}
		return nil
	}
	return p.call(c)
}

// stream adds a named stream to the file before it.
func (p *plan) stream(h *tar.Header, content io.Reader) error {
	p.refuse(h.Name, "an alternate data stream: hcsshim v0.15.0 cannot write it")
	d, err := digest.FromReader(content)
	if err != nil {
		return err
	}
	p.layer.Bytes += h.Size
	return p.call(Call{Op: OpStream, Path: windowsPath(h.Name), Size: h.Size, Digest: d})
}

// link puts one off: what it is shows when all files are known.
func (p *plan) link(name, target string) error {
	if apart(name) {
		p.refuse(name, "a hard link where Windows has a file of its own")
	}
	p.layer.Links++
	p.later = append(p.later, Call{Op: OpLink, Path: name, Target: target})
	return nil
}

// finish adds what was put off.
func (p *plan) finish() error {
	if p.base {
		p.checkHives()
		p.later = append(p.later, baseCalls()...)
	} else {
		slices.SortFunc(p.layer.Deltas, func(a, b string) int { return hiveIndex(a) - hiveIndex(b) })
		for _, hive := range p.layer.Deltas {
			p.later = append(p.later, mergedHive(hive))
		}
	}
	for _, c := range p.later {
		switch {
		case c.Op == OpLink && !p.added[c.Target]:
			c.Op = OpMergeLink
		case c.Op == OpLink:
			p.added[c.Path] = true // links may name it, but not one that is merged
		}
		if err := p.call(c); err != nil {
			return err
		}
	}
	return nil
}

// call checks one against those before it, and emits it.
func (p *plan) call(c Call) error {
	p.checkCall(c)
	p.layer.Calls++
	if c.Op == OpTombstone {
		p.layer.Removed++
	}
	return p.emit(c)
}

// windowsPath is a path of the tar as the API has it.
func windowsPath(name string) string {
	return strings.ReplaceAll(name, "/", `\`)
}
