package inflate

import "encoding/binary"

func (z *Reader) load64in(i uint) uint64 {
	i &= inSize - 1
	return binary.LittleEndian.Uint64(z.in[i : i+8])
}

func (z *Reader) load64(i uint) uint64 {
	i &= outSize - 1
	return binary.LittleEndian.Uint64(z.out[i : i+8])
}

func (z *Reader) store64(i uint, v uint64) {
	i &= outSize - 1
	binary.LittleEndian.PutUint64(z.out[i:i+8], v)
}

func (z *Reader) store32(i uint, v uint32) {
	i &= outSize - 1
	binary.LittleEndian.PutUint32(z.out[i:i+4], v)
}

func (z *Reader) copy16(dst, src uint) {
	dst &= outSize - 1
	src &= outSize - 1
	*(*[16]byte)(z.out[dst : dst+16]) = *(*[16]byte)(z.out[src : src+16])
}
