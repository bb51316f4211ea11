package archive

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// CRIU's images: a magic number or two, then messages, each behind its length
// (criu/include/magic.h, criu/protobuf.c; images/*.proto). We read the few fields that are
// looked at ourselves: go-criu's decoder makes buffers of whatever length an image names,
// and brings a package for each of some seventy messages.
const (
	magicCommon    = 0x54564319 // before the image's own
	magicService   = 0x55105940
	magicInventory = 0x58313116 // alone
	magicPagemap   = 0x56084025
)

// magics are those of the images of which we know that they are messages to the end, by
// the name without its number.
var magics = map[string]uint32{
	"apparmor": 0x59423047, "autofs": 0x49353943, "bpfmap-file": 0x57506142, "cgroup": 0x59383330,
	"core": 0x55053847, "cpuinfo": 0x61404013, "eventfd": 0x44523722, "eventpoll": 0x45023858,
	"eventpoll-tfd": 0x44433746, "ext-files": 0x59255641, "fanotify": 0x55096122, "fanotify-mark": 0x56506035,
	"fdinfo": 0x56213732, "fifo": 0x58364939, "filelocks": 0x54323616, "files": 0x56303138, "fs": 0x51403912,
	"ids": 0x54432030, "inetsk": 0x56443851, "inotify": 0x48424431, "inotify-wd": 0x54562009,
	"memfd": 0x48453499, "mm": 0x57492820, "mountpoints": 0x55563928, "netdev": 0x57373951,
	"netlinksk": 0x58005614, "netns": 0x55933752, "ns-files": 0x61394011, "packetsk": 0x60454618,
	"pidns": 0x61157326, "pipes": 0x56513555, "pstree": 0x50273030, "reg-files": 0x50363636,
	"remap-fpath": 0x59133954, "seccomp": 0x64413049, "signalfd": 0x57323820, "timens": 0x43114433,
	"timerfd": 0x50493712, "tty": 0x59433025, "tty-info": 0x59453036, "tunfile": 0x57143751,
	"unixsk": 0x54373943, "userns": 0x55474906, "utsns": 0x54473203,
	"pagemap": magicPagemap,
}

const inventoryFile = "inventory.img"

// maxMessage bounds a message of an image. Those with one entry for each of many things
// are many messages; the largest is mm's, with some 60 bytes a mapping.
const maxMessage = 64 << 20

// imageDir is a directory of CRIU's images.
type imageDir struct {
	root *os.Root
	dir  string
}

// image is one that is being read.
type image struct {
	name string
	r    *bufio.Reader
	left int64
	io.Closer
}

func (d imageDir) exists(name string) bool {
	_, err := d.root.Lstat(path.Join(d.dir, name))
	return err == nil
}

// open opens a regular file of a size that is known then.
func (d imageDir) open(name string) (*image, error) {
	full := path.Join(d.dir, name)
	f, size, err := openRegular(d.root, full)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, refused(full, "the checkpoint lacks it: the dump was not finished or the archive is not whole; make the checkpoint anew")
	}
	if err != nil {
		return nil, err
	}
	return &image{full, bufio.NewReader(f), size, f}, nil
}

// openRegular opens what is a regular file, of the size that it has before.
func openRegular(root *os.Root, name string) (*os.File, int64, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, refused(name, "it is no regular file")
	}
	f, err := root.Open(name)
	return f, info.Size(), err
}

// messages calls f with each message of an image whose magic is own.
func (d imageDir) messages(name string, own uint32, f func([]byte) error) (err error) {
	img, err := d.open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	if err := img.magic(own); err != nil {
		return err
	}
	for {
		m, err := img.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := f(m); err != nil {
			return &EntryError{img.name, "a message of it is damaged; fetch the checkpoint again", err}
		}
	}
}

// message is that of an image that has one.
func (d imageDir) message(name string, own uint32) (fields, error) {
	var all []fields
	err := d.messages(name, own, func(m []byte) error {
		f, err := parse(m)
		all = append(all, f)
		if err == nil && len(all) > 1 {
			err = errors.New("there is more than one")
		}
		return err
	})
	if err == nil && len(all) == 0 {
		err = refused(path.Join(d.dir, name), "it is empty; fetch the checkpoint again")
	}
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

func (i *image) word() (uint32, error) {
	var b [4]byte
	if i.left < int64(len(b)) {
		return 0, i.truncated()
	}
	i.left -= int64(len(b))
	_, err := io.ReadFull(i.r, b[:])
	return binary.LittleEndian.Uint32(b[:]), err
}

func (i *image) truncated() error {
	return &EntryError{i.name, "it ends in the middle of a message; fetch the checkpoint again", io.ErrUnexpectedEOF}
}

// magic reads the numbers before the messages.
func (i *image) magic(own uint32) error {
	first := uint32(magicCommon)
	switch own {
	case magicInventory:
		first = 0
	case magicStats:
		first = magicService
	}
	for _, want := range []uint32{first, own} {
		if want == 0 {
			continue
		}
		got, err := i.word()
		if err != nil {
			return err
		}
		if got != want {
			return refused(i.name, "it begins with %#08x, and CRIU writes %#08x there; fetch the checkpoint again", got, want)
		}
	}
	return nil
}

// next gives the next message, or io.EOF.
func (i *image) next() ([]byte, error) {
	if i.left == 0 {
		return nil, io.EOF
	}
	n, err := i.word()
	if err != nil {
		return nil, err
	}
	if int64(n) > i.left {
		return nil, i.truncated()
	}
	if n > maxMessage {
		return nil, &LimitError{i.name, "bytes of a message", maxMessage}
	}
	i.left -= int64(n)
	b := make([]byte, n)
	_, err = io.ReadFull(i.r, b)
	return b, err
}

// fields are those of a message: varints by their value, the others by their bytes.
type fields map[protowire.Number][]field

type field struct {
	varint uint64
	bytes  []byte
}

func parse(m []byte) (fields, error) {
	all := fields{}
	for len(m) > 0 {
		number, kind, n := protowire.ConsumeTag(m)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		m = m[n:]
		var f field
		switch kind {
		case protowire.VarintType:
			f.varint, n = protowire.ConsumeVarint(m)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(m)
		default:
			n = protowire.ConsumeFieldValue(number, kind, m)
		}
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		m = m[n:]
		all[number] = append(all[number], f)
	}
	return all, nil
}

// number is a field's value, or 0; the last one counts, as with protobuf.
func (f fields) number(n protowire.Number) uint64 {
	if v := f[n]; len(v) > 0 {
		return v[len(v)-1].varint
	}
	return 0
}

// word is a field's value where CRIU has 32 bits for it. protobuf-c takes the lower ones of a
// longer varint and says nothing: an image with 1<<32|7 names what 7 does.
func (f fields) word(n protowire.Number) uint64 { return uint64(uint32(f.number(n))) }

// zigzag is a signed field's value, likewise.
func (f fields) zigzag(n protowire.Number) int64 { return protowire.DecodeZigZag(f.word(n)) }

func (f fields) has(n protowire.Number) bool { return len(f[n]) > 0 }

// required fails for a field that CRIU always writes.
func (f fields) required(numbers ...protowire.Number) error {
	for _, n := range numbers {
		if !f.has(n) {
			return fmt.Errorf("field %d is missing", n)
		}
	}
	return nil
}

// sub is a message in a message.
func (f fields) sub(n protowire.Number) (fields, error) {
	v := f[n]
	if len(v) == 0 {
		return fields{}, nil
	}
	return parse(v[len(v)-1].bytes)
}

// words are those of a repeated field, packed or not.
func (f fields) words(n protowire.Number) ([]uint64, error) {
	var all []uint64
	for _, v := range f[n] {
		if v.bytes == nil {
			all = append(all, uint64(uint32(v.varint)))
			continue
		}
		for b := v.bytes; len(b) > 0; {
			x, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return nil, protowire.ParseError(n)
			}
			all, b = append(all, uint64(uint32(x))), b[n:]
		}
	}
	return all, nil
}

// kindOf is the name of an image without its numbers: core of core-17.img.
func kindOf(name string) string {
	kind := strings.TrimSuffix(name, ".img")
	for {
		head, tail, ok := cutLast(kind, "-")
		if !ok || strings.Trim(tail, "0123456789") != "" {
			return kind
		}
		kind = head
	}
}

func cutLast(s, sep string) (string, string, bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// entries lists what is there, sorted.
func (d imageDir) entries() ([]string, error) {
	dir, err := d.root.Open(d.dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// named lists the images of a kind.
func (d imageDir) named(kind string) ([]string, error) {
	names, err := d.entries()
	return slices.DeleteFunc(names, func(name string) bool {
		return !strings.HasSuffix(name, ".img") || kindOf(name) != kind
	}), err
}

// each calls f with every message of a repeated field.
func (f fields) each(n protowire.Number, call func(fields) error) error {
	for _, v := range f[n] {
		m, err := parse(v.bytes)
		if err == nil {
			err = call(m)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// only is a message in a message that may be there once: protobuf makes one of several,
// which is none of those that we would look at.
func (f fields) only(n protowire.Number) (fields, error) {
	if len(f[n]) > 1 {
		return nil, fmt.Errorf("field %d is there %d times", n, len(f[n]))
	}
	return f.sub(n)
}

// text is a field's value as a string; the last one counts.
func (f fields) text(n protowire.Number) string {
	if v := f[n]; len(v) > 0 {
		return string(v[len(v)-1].bytes)
	}
	return ""
}
