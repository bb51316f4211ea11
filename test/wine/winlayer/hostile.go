package winlayer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Holes is a layer whose one file is a hole of 4 EiB, which archive/tar reads and does not
// write: the format is that of GNU tar's PAX headers, version 0.1.
func Holes() []byte {
	const size = 1 << 62
	var records bytes.Buffer
	for _, r := range [][2]string{{"GNU.sparse.map", fmt.Sprintf("%d,0", int64(size))}, {"GNU.sparse.numblocks", "1"}, {"GNU.sparse.size", fmt.Sprint(int64(size))}, {"GNU.sparse.major", "0"}, {"GNU.sparse.minor", "1"}} {
		n := len(r[0]) + len(r[1]) + 3
		for n != len(fmt.Sprint(n))+len(r[0])+len(r[1])+3 {
			n++
		}
		fmt.Fprintf(&records, "%d %s=%s\n", n, r[0], r[1])
	}
	var b bytes.Buffer
	// The writer makes neither such a header nor such records: the name's type is changed behind it.
	w := tar.NewWriter(&b)
	h := &tar.Header{Name: "PaxHeaders/a", Typeflag: tar.TypeReg, Size: int64(records.Len()), Mode: 0o600, Format: tar.FormatUSTAR}
	if err := errors.Join(w.WriteHeader(h), write(w, records.Bytes()), w.WriteHeader(&tar.Header{Name: "Files/a", Typeflag: tar.TypeReg, Mode: 0o600, Format: tar.FormatUSTAR}), w.Close()); err != nil {
		panic(err)
	}
	raw := b.Bytes()
	raw[156] = tar.TypeXHeader
	sum := 0
	copy(raw[148:156], "        ")
	for _, c := range raw[:512] {
		sum += int(c)
	}
	copy(raw[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return raw
}

func write(w io.Writer, b []byte) error {
	_, err := w.Write(b)
	return err
}
