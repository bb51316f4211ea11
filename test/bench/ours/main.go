//go:build linux

// Command ours is the one process that `make bench` measures of lithify:
//
//	ours convert PROFILE IN OUT   a layer, compressed or not, to an EROFS blob, unverified
//	ours verify PROFILE IN OUT    the same, and the blob compared with the tar (--verify=full)
//	ours write PROFILE IN OUT     the same without digests
//	ours stream SIZE IN           a layer to erofs-tar around a tar of SIZE bytes, thrown away as it is made
//	ours shared TAR TAR|newer     how much of one image another has, by chunks
//	ours gunzip IN                klauspost/compress alone, the bytes thrown away
//	ours digest IN                SHA-256 alone
package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	kgzip "github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/lithify/lithify/convert/inflate"
	"github.com/lithify/lithify/convert/proof"
	"github.com/lithify/lithify/erofs"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ours:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 4 && args[0] == "convert":
		return convert(erofs.Options{Profile: erofs.Profile(args[1])}, args[2], args[3], false)
	case len(args) == 4 && args[0] == "verify":
		return convert(erofs.Options{Profile: erofs.Profile(args[1])}, args[2], args[3], true)
	case len(args) == 4 && args[0] == "write":
		return convert(erofs.Options{Profile: erofs.Profile(args[1]), Unhashed: true}, args[2], args[3], false)
	case len(args) == 3 && args[0] == "stream":
		return stream(args[1], args[2])
	case len(args) == 3 && args[0] == "shared":
		return shared(args[1], args[2])
	case len(args) == 2 && args[0] == "gunzip":
		return gunzip(args[1])
	case len(args) == 2 && args[0] == "digest":
		return digest(args[1])
	}
	return errors.New("usage: ours convert|verify|write PROFILE IN OUT | ours stream SIZE IN | ours shared TAR TAR|newer | ours gunzip IN | ours digest IN")
}

func convert(opts erofs.Options, in, out string, verify bool) error {
	src, err := os.Open(in)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(out)
	if err != nil {
		return err
	}
	defer dst.Close()
	tar, err := decompress(src, in)
	if err != nil {
		return err
	}
	seen, end := tar, func(err error) error { return err }
	p := proof.NewTar(false)
	if verify {
		seen, end = p.Tee(tar)
	}
	l, err := erofs.Convert(context.Background(), dst, seen, opts)
	if err = cmp.Or(err, end(err)); err != nil {
		return err
	}
	if verify {
		if err := p.Compare(context.Background(), dst, nil, nil); err != nil {
			return err
		}
	}
	fmt.Printf("%q %d %s\n", l.Digest, l.Size, l.TarDigest)
	return dst.Close()
}

func stream(size, in string) error {
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		return err
	}
	src, err := os.Open(in)
	if err != nil {
		return err
	}
	defer src.Close()
	tar, err := decompress(src, in)
	if err != nil {
		return err
	}
	l, err := erofs.Stream(context.Background(), io.Discard, tar, erofs.Options{Profile: erofs.ProfileTar, TarSize: n})
	if err != nil {
		return err
	}
	fmt.Printf("%q %d %s\n", l.Digest, l.Size, l.TarDigest)
	return nil
}

// decompress is what package convert does with a layer.
func decompress(src *os.File, name string) (io.Reader, error) {
	switch {
	case strings.HasSuffix(name, ".gz"):
		return inflate.NewReader(bufio.NewReaderSize(src, 1<<20))
	case strings.HasSuffix(name, ".zst"):
		return zstd.NewReader(bufio.NewReaderSize(src, 1<<20), zstd.WithDecoderConcurrency(1), zstd.IgnoreChecksum(true))
	}
	return src, nil
}

func gunzip(in string) error {
	src, err := os.Open(in)
	if err != nil {
		return err
	}
	defer src.Close()
	z, err := kgzip.NewReader(bufio.NewReaderSize(src, 1<<20))
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, z)
	return err
}

func digest(in string) error {
	src, err := os.Open(in)
	if err != nil {
		return err
	}
	defer src.Close()
	h := sha256.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{src}, make([]byte, 1<<20)); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "sha256:%x\n", h.Sum(nil))
	return nil
}
