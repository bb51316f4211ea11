package erofs_test

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"
)

// entry is one header of a test's tar, with its data.
type entry struct {
	tar.Header
	body string
}

var someTime = time.Unix(1700000000, 123456789)

func file(name, body string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, ModTime: someTime}, body}
}

func dir(name string, mode int64) entry {
	return entry{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode, ModTime: someTime}, ""}
}

func symlink(name, target string) entry {
	return entry{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777, ModTime: someTime}, ""}
}

func hardlink(name, target string) entry {
	return entry{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644, ModTime: someTime}, ""}
}

func device(name string, typ byte, major, minor int64) entry {
	return entry{tar.Header{Typeflag: typ, Name: name, Devmajor: major, Devminor: minor, Mode: 0o600, ModTime: someTime}, ""}
}

func (e entry) owned(uid, gid int) entry {
	e.Uid, e.Gid = uid, gid
	return e
}

func (e entry) at(sec, nsec int64) entry {
	e.ModTime = time.Unix(sec, nsec)
	return e
}

func (e entry) xattr(kv ...string) entry {
	recs := map[string]string{}
	for k, v := range e.PAXRecords {
		recs[k] = v
	}
	for i := 0; i < len(kv); i += 2 {
		recs["SCHILY.xattr."+kv[i]] = kv[i+1]
	}
	e.PAXRecords = recs
	return e
}

// makeTar writes the entries with archive/tar, in PAX format.
func makeTar(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		hdr := e.Header
		hdr.Size = int64(len(e.body))
		hdr.Format = tar.FormatPAX
		if err := w.WriteHeader(&hdr); err != nil {
			t.Fatalf("%s: %v", hdr.Name, err)
		}
		if _, err := w.Write([]byte(e.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// rawEntry makes a header by hand, for what archive/tar does not write, and data
// behind it. set may change the header before its checksum is computed.
func rawEntry(typ byte, name, data string, set func(h []byte)) []byte {
	h := make([]byte, 512)
	copy(h, name)
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	copy(h[124:], fmt.Sprintf("%011o\x00%011o\x00", len(data), 1700000000))
	h[156] = typ
	copy(h[257:], "ustar  \x00")
	if set != nil {
		set(h)
	}
	setChecksum(h)
	body := make([]byte, (len(data)+511)/512*512)
	copy(body, data)
	return append(h, body...)
}

func setChecksum(h []byte) {
	copy(h[148:156], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
}

func rawTar(parts ...[]byte) []byte {
	return append(bytes.Join(parts, nil), make([]byte, 1024)...)
}

func paxHeader(typ byte, kv ...string) []byte {
	var b strings.Builder
	for i := 0; i < len(kv); i += 2 {
		rec := " " + kv[i] + "=" + kv[i+1] + "\n"
		n := len(rec)
		for n != len(fmt.Sprint(n))+len(rec) {
			n = len(fmt.Sprint(n)) + len(rec)
		}
		fmt.Fprint(&b, n, rec)
	}
	return rawEntry(typ, "pax", b.String(), nil)
}

// gnuSparse is a file in GNU tar's old format, with extension blocks if there
// are more than four pieces.
func gnuSparse(name string, size int64, pieces ...sparsePiece) []byte {
	data := ""
	for _, p := range pieces {
		data += p.data
	}
	pairs := func(b []byte, n int, from []sparsePiece) []sparsePiece {
		k := min(n, len(from))
		for i, p := range from[:k] {
			b[i*24] = 0x80
			binary.BigEndian.PutUint64(b[i*24+4:], uint64(p.off))
			copy(b[i*24+12:], fmt.Sprintf("%011o\x00", len(p.data)))
		}
		if len(from) > k {
			b[n*24] = 1
		}
		return from[k:]
	}
	rest := pieces
	all := rawEntry('S', name, data, func(h []byte) {
		h[483] = 0x80
		binary.BigEndian.PutUint64(h[487:], uint64(size))
		rest = pairs(h[386:], 4, rest)
	})
	out := append([]byte(nil), all[:512]...)
	for len(rest) > 0 {
		ext := make([]byte, 512)
		rest = pairs(ext, 21, rest)
		out = append(out, ext...)
	}
	return append(out, all[512:]...)
}

type sparsePiece struct {
	off  int64
	data string
}

// uuidOf is how containerd v2.4 names the file system of a layer.
func uuidOf(tar digest.Digest) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte("erofs:blobs/"+tar.String())).String()
}
