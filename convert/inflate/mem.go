package inflate

import "encoding/binary"

// The buffers' ends are slack bytes behind the last index that these let through,
// so that the compiler sees each access in bounds and checks none. The masks change
// no index: fast starts a round only below its limits, and those keep a round's
// accesses within the buffers.

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
