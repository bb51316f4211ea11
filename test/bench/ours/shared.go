//go:build linux

package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/bits"
	"os"

	"github.com/lithify/lithify/erofs"
)

// shared prints how much of the second tar's image somebody need not fetch who has that of
// the first, when both are cut by our chunk index, and when a content-defined chunker
// cuts them into chunks of the same mean size. newer is the first with changes.
func shared(first, second string) (err error) {
	if second == "newer" {
		if second, err = newer(first); err != nil {
			return err
		}
		defer os.Remove(second)
	}
	var ours, theirs [2]map[[sha256.Size]byte]int64
	var mean int64
	for i, tar := range []string{first, second} {
		image, chunks, err := chunked(tar)
		if err != nil {
			return err
		}
		defer os.Remove(image.Name())
		defer image.Close()
		ours[i] = map[[sha256.Size]byte]int64{}
		var total int64
		for _, c := range chunks {
			ours[i][c.SHA256] = c.ImageSize
			total += c.ImageSize
		}
		if i == 0 { // both are cut alike
			mean = total / int64(len(chunks))
		}
		if theirs[i], err = gear(io.NewSectionReader(image, 0, total), mean); err != nil {
			return err
		}
	}
	a, b := both(ours), both(theirs)
	fmt.Printf("chunks of %d KiB in the mean: %.3f of the second image are in the first, by content-defined chunks %.3f, ratio %.3f\n", mean>>10, a, b, a/b)
	return nil
}

// newer makes of a tar one of a later version: each fortieth file is longer by a line at its
// beginning, and as many are gone.
func newer(old string) (path string, err error) {
	src, err := os.Open(old)
	if err != nil {
		return "", err
	}
	defer src.Close()
	dst, err := os.CreateTemp("", "newer")
	if err != nil {
		return "", err
	}
	defer dst.Close()
	r, w := tar.NewReader(src), tar.NewWriter(dst)
	for n := 0; ; {
		h, err := r.Next()
		if err == io.EOF {
			return dst.Name(), w.Close()
		}
		if err != nil {
			return "", err
		}
		var line []byte
		if h.Typeflag == tar.TypeReg && h.Size > 0 {
			switch n++; n % 40 {
			case 10:
				continue
			case 30:
				line = []byte("a later version\n")
			}
		}
		h.Size += int64(len(line))
		if err := w.WriteHeader(h); err != nil {
			return "", err
		}
		if _, err := io.Copy(w, io.MultiReader(bytes.NewReader(line), r)); err != nil {
			return "", err
		}
	}
}

// both is the share of the second's bytes that the first has.
func both(sums [2]map[[sha256.Size]byte]int64) float64 {
	var had, all int64
	for sum, n := range sums[1] {
		if all += n; sums[0][sum] == n {
			had += n
		}
	}
	return float64(had) / float64(all)
}

// chunked gives a tar's image, and its chunks as the blob of the profile erofs+zstd has them.
func chunked(tar string) (image *os.File, chunks []erofs.Chunk, err error) {
	blob, err := os.CreateTemp("", "blob")
	if err != nil {
		return nil, nil, err
	}
	defer os.Remove(blob.Name())
	defer blob.Close()
	l, err := converted(tar, blob, erofs.ProfileZstd)
	if err != nil {
		return nil, nil, err
	}
	if chunks, err = erofs.ReadChunkIndex(blob, l.Size, *l.Chunks); err != nil {
		return nil, nil, err
	}
	if image, err = os.CreateTemp("", "image"); err != nil {
		return nil, nil, err
	}
	_, err = converted(tar, image, erofs.ProfileRaw)
	return image, chunks, err
}

func converted(tar string, to *os.File, p erofs.Profile) (*erofs.Layer, error) {
	src, err := os.Open(tar)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	return erofs.Convert(context.Background(), to, src, erofs.Options{Profile: p})
}

// gear cuts by a rolling hash, as FastCDC does (Xia et al., USENIX ATC 2016, section 4): at a
// hash whose upper bits are zero, from a quarter of the mean on and at four times it.
func gear(r io.Reader, mean int64) (map[[sha256.Size]byte]int64, error) {
	var table [256]uint64
	x := uint64(1)
	for i := range table { // any fixed random numbers
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		table[i] = x * 0x9e3779b97f4a7c15
	}
	least, most := mean/4, mean*4
	// A border is found after another three quarters of the mean, in the mean.
	cut := uint(64 - bits.Len64(uint64(mean-least)))
	sums := map[[sha256.Size]byte]int64{}
	buf, have := make([]byte, most), 0
	for {
		n, err := io.ReadFull(r, buf[have:])
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return nil, err
		}
		if have += n; have == 0 {
			return sums, nil
		}
		end, hash := have, uint64(0)
		for i := min(int(least), have); i < have; i++ {
			if hash = hash<<1 + table[buf[i]]; hash>>cut == 0 {
				end = i + 1
				break
			}
		}
		sums[sha256.Sum256(buf[:end])] = int64(end)
		have = copy(buf, buf[end:have])
	}
}
