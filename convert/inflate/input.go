package inflate

import (
	"encoding/binary"
	"io"
)

// fill reads more input. It returns nil only if there is more. Whole bytes in the
// bit buffer go back to the input first, so that a stored block and the trailer
// find them there.
func (z *Reader) fill() error {
	z.unread()
	if z.srcErr != nil {
		return noEOF(z.srcErr)
	}
	if z.ip > 0 {
		copy(z.in[:], z.in[z.ip:z.end])
		z.offset += int64(z.ip)
		z.end -= z.ip
		z.ip = 0
	}
	for range maxEmptyReads {
		n, err := z.src.Read(z.in[z.end:inSize])
		z.end += uint(n)
		z.srcErr = err
		if n > 0 {
			return nil
		}
		if err != nil {
			return noEOF(err)
		}
	}
	z.srcErr = io.ErrNoProgress
	return z.srcErr
}

// unread gives the whole bytes of the bit buffer back to the input.
func (z *Reader) unread() {
	z.ip -= z.n >> 3
	z.n &= 7
	z.b &= 1<<z.n - 1
}

// need makes the bit buffer hold n bits or more, n <= 56.
func (z *Reader) need(n uint) error {
	for z.n < n {
		if z.end-z.ip >= 8 {
			z.b |= binary.LittleEndian.Uint64(z.in[z.ip:]) << z.n
			z.ip += (63 - z.n) >> 3
			z.n |= 56
			z.b &= 1<<z.n - 1
			return nil
		}
		if z.ip == z.end {
			if err := z.fill(); err != nil {
				return err
			}
			continue
		}
		z.b |= uint64(z.in[z.ip]) << z.n
		z.ip++
		z.n += 8
	}
	return nil
}

// take takes n bits that need has fetched.
func (z *Reader) take(n uint) uint {
	v := uint(z.b & (1<<n - 1))
	z.b >>= n
	z.n -= n
	return v
}

// bytes reads len(p) bytes from a byte boundary.
func (z *Reader) bytes(p []byte) error {
	z.unread()
	for {
		n := copy(p, z.in[z.ip:z.end])
		z.ip += uint(n)
		if p = p[n:]; len(p) == 0 {
			return nil
		}
		if err := z.fill(); err != nil {
			return err
		}
	}
}

// corrupt is the error at the present place of the input.
func (z *Reader) corrupt() error {
	return CorruptError(z.offset + int64(z.ip) - int64(z.n>>3))
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
