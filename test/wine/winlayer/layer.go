// Package winlayer writes small Windows layers, uncompressed tars with the records
// that Windows' own tools put in them:
//
//	l := winlayer.New()
//	l.Dir("Files")
//	l.File("Files/a.txt", []byte("a"), winlayer.EA("FOO", []byte("bar")))
//	tar := l.Bytes()
//
// Base, Child and Top are three layers that lie on each other, Copied is one as BuildKit
// writes it on Linux, Random are as many as a seed.
//
// The bytes are the same each time.
package winlayer

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"path"
	"strconv"
	"strings"
	"time"
)

// Attributes of files, as in the Windows SDK.
const (
	ReadOnly  = 0x1
	Hidden    = 0x2
	System    = 0x4
	Directory = 0x10
	Archive   = 0x20
	Normal    = 0x80
	Sparse    = 0x200
	Reparse   = 0x400
)

// Times of what New's layers hold. Windows counts in 100 ns: what is finer is lost.
var (
	Modified = time.Date(2026, 1, 2, 3, 4, 5, 678_900_150, time.UTC)
	Created  = time.Date(2025, 1, 2, 3, 4, 5, 123_456_700, time.UTC)
)

// Everyone is a security descriptor, O:BAG:SYD:(A;;FA;;;WD) in words.
var Everyone = []byte{
	1, 0, 4, 128, 20, 0, 0, 0, 36, 0, 0, 0, 0, 0, 0, 0, 48, 0, 0, 0,
	1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 32, 2, 0, 0,
	1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0,
	2, 0, 28, 0, 1, 0, 0, 0, 0, 0, 20, 0, 255, 1, 31, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0,
}

// A Layer is a tar under way. Its methods panic on what no tar can hold.
type Layer struct {
	out bytes.Buffer
	tar *tar.Writer
}

// New begins a layer.
func New() *Layer {
	l := new(Layer)
	l.tar = tar.NewWriter(&l.out)
	return l
}

// Bytes ends the layer.
func (l *Layer) Bytes() []byte {
	if err := l.tar.Close(); err != nil {
		panic(err)
	}
	return l.out.Bytes()
}

// An Option changes what is said of an entry.
type Option func(*tar.Header)

// Attributes are instead of those that fit the kind of the entry.
func Attributes(a uint32) Option {
	return Record("MSWINDOWS.fileattr", strconv.FormatUint(uint64(a), 10))
}

// SD is a security descriptor in its binary form, instead of Everyone.
func SD(b []byte) Option {
	return Record("MSWINDOWS.rawsd", base64.StdEncoding.EncodeToString(b))
}

// EA adds an extended attribute.
func EA(name string, value []byte) Option {
	return Record("MSWINDOWS.xattr."+name, base64.StdEncoding.EncodeToString(value))
}

// Record is a PAX record, as it is.
func Record(key, value string) Option {
	return func(h *tar.Header) { h.PAXRecords[key] = value }
}

// Without leaves a PAX record out.
func Without(key string) Option {
	return func(h *tar.Header) { delete(h.PAXRecords, key) }
}

// Times are those of the last write, the last access and the last change. Zero ones are
// left out.
func Times(modified, accessed, changed time.Time) Option {
	return func(h *tar.Header) { h.ModTime, h.AccessTime, h.ChangeTime = modified, accessed, changed }
}

// Dir adds a directory.
func (l *Layer) Dir(name string, opts ...Option) {
	l.add(&tar.Header{Name: name, Typeflag: tar.TypeDir}, Directory, nil, opts)
}

// File adds a file.
func (l *Layer) File(name string, content []byte, opts ...Option) {
	l.add(&tar.Header{Name: name, Typeflag: tar.TypeReg}, Archive, content, opts)
}

// Stream adds an alternate data stream of the file before it. How stream is spelled
// differs: ":name" is go-winio's, ":name:$DATA" is what hcsshim asks for.
func (l *Layer) Stream(file, stream string, content []byte) {
	l.write(&tar.Header{Name: file + stream, Typeflag: tar.TypeReg, ModTime: Modified}, content)
}

// Symlink adds a symbolic link. Windows has those of directories be directories: that is
// in their Attributes.
func (l *Layer) Symlink(name, target string, opts ...Option) {
	l.add(&tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}, Reparse, nil, opts)
}

// MountPoint adds a junction.
func (l *Layer) MountPoint(name, target string, opts ...Option) {
	opts = append([]Option{Record("MSWINDOWS.mountpoint", "1")}, opts...)
	l.add(&tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}, Reparse|Directory, nil, opts)
}

// Link adds a hard link to target, which another entry or a layer below has.
func (l *Layer) Link(name, target string) {
	l.add(&tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target}, Archive, nil, nil)
}

// Remove says that a layer below has name and this one has it no more.
func (l *Layer) Remove(name string) {
	dir, base := path.Split(name)
	l.write(&tar.Header{Name: dir + ".wh." + base, Typeflag: tar.TypeReg, ModTime: Modified}, nil)
}

// Raw adds an entry that says nothing but what h says.
func (l *Layer) Raw(h tar.Header, content []byte) { l.write(&h, content) }

func (l *Layer) add(h *tar.Header, attributes uint32, content []byte, opts []Option) {
	h.ModTime, h.AccessTime, h.ChangeTime = Modified, Modified, Modified
	h.PAXRecords = maps.Clone(records)
	Attributes(attributes)(h)
	for _, o := range opts {
		o(h)
	}
	l.write(h, content)
}

// records are of every entry.
var records = map[string]string{
	"MSWINDOWS.rawsd":         base64.StdEncoding.EncodeToString(Everyone),
	"LIBARCHIVE.creationtime": paxTime(Created),
}

func (l *Layer) write(h *tar.Header, content []byte) {
	h.Format, h.Size = tar.FormatPAX, int64(len(content))
	if err := l.tar.WriteHeader(h); err != nil {
		panic(err)
	}
	if _, err := io.Copy(l.tar, bytes.NewReader(content)); err != nil {
		panic(err)
	}
}

// paxTime is t in seconds, with a fraction as long as it must be.
func paxTime(t time.Time) string {
	sign, s, ns := "", t.Unix(), t.Nanosecond()
	if s < 0 {
		sign, s = "-", -s
		if ns > 0 {
			s, ns = s-1, 1e9-ns
		}
	}
	return sign + strings.TrimRight(strings.TrimRight(fmt.Sprintf("%d.%09d", s, ns), "0"), ".")
}
