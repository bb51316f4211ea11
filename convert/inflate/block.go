package inflate

import "encoding/binary"

// blockHeader reads the header of a block, with the codes of a dynamic one.
func (z *Reader) blockHeader() error {
	if err := z.need(3); err != nil {
		return err
	}
	z.final = z.take(1) == 1
	switch z.take(2) {
	case 0:
		return z.storedHeader()
	case 1:
		z.fixedCodes()
	case 2:
		if err := z.dynamicCodes(); err != nil {
			return err
		}
	default:
		return z.corrupt()
	}
	z.step = (*Reader).huffman
	return nil
}

func (z *Reader) storedHeader() error {
	z.take(z.n & 7)
	var p [4]byte
	if err := z.bytes(p[:]); err != nil {
		return err
	}
	n := binary.LittleEndian.Uint16(p[:])
	if n != ^binary.LittleEndian.Uint16(p[2:]) {
		return z.corrupt()
	}
	z.stored = uint(n)
	z.step = (*Reader).storedBlock
	return nil
}

// storedBlock copies what is there of a stored block.
func (z *Reader) storedBlock() error {
	if z.stored == 0 {
		z.endBlock()
		return nil
	}
	if z.ip == z.end {
		if z.pause() {
			return nil
		}
		if err := z.fill(); err != nil {
			return err
		}
	}
	n := uint(copy(z.out[z.op:outSize], z.in[z.ip:min(z.end, z.ip+z.stored)]))
	z.ip += n
	z.op += n
	z.stored -= n
	return nil
}

func (z *Reader) endBlock() {
	z.step = (*Reader).blockHeader
	if z.final {
		z.step = (*Reader).trailer
	}
}

// fixedLens are the code lengths of RFC 1951 section 3.2.6, distances after the
// literals and lengths.
var fixedLens = func() (l [288 + 32]uint8) {
	for i := range l {
		switch {
		case i < 144:
			l[i] = 8
		case i < 256:
			l[i] = 9
		case i < 280:
			l[i] = 7
		case i < 288:
			l[i] = 8
		default:
			l[i] = 5
		}
	}
	return l
}()

// fixedCodes makes the tables of a fixed block, unless they are the last ones made.
func (z *Reader) fixedCodes() {
	if z.fixed {
		return
	}
	z.makeTables(fixedLens[:288], fixedLens[288:])
	z.fixed = true
}

// preOrder is the order in which a dynamic block lists the lengths of the code
// length code.
var preOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// dynamicCodes reads the codes of a dynamic block, RFC 1951 section 3.2.7.
func (z *Reader) dynamicCodes() error {
	if err := z.need(14); err != nil {
		return err
	}
	nlit, ndist, npre := z.take(5)+257, z.take(5)+1, z.take(4)+4
	if nlit > maxLit || ndist > maxDist {
		return z.corrupt()
	}
	var pre [19]uint8
	for _, s := range preOrder[:npre] {
		if err := z.need(3); err != nil {
			return err
		}
		pre[s] = uint8(z.take(3))
	}
	if !z.code.init(pre[:]) {
		return z.corrupt()
	}
	z.code.fill(z.pre[:], preBits, preValues[:], 1)
	if err := z.codeLens(z.lens[:nlit+ndist]); err != nil {
		return err
	}
	z.fixed = false
	if !z.makeTables(z.lens[:nlit], z.lens[nlit:nlit+ndist]) {
		return z.corrupt()
	}
	return nil
}

// preValues are the values of the code length code: the symbol alone.
var preValues = func() (v [19]uint64) {
	for s := range v {
		v[s] = uint64(s) << valueShift
	}
	return v
}()

// codeLens reads the lengths of both codes, which z.pre encodes. A valid stream
// has a trailer behind it, so need may ask for more bits than a symbol has.
func (z *Reader) codeLens(lens []uint8) error {
	for i := 0; i < len(lens); {
		if z.n < preBits+7 {
			if err := z.need(preBits + 7); err != nil {
				return err
			}
		}
		e := z.pre[z.b&(1<<preBits-1)]
		if e&flagSpecial != 0 {
			return z.corrupt()
		}
		z.take(uint(e & 63))
		s := uint8(e >> valueShift)
		if s < 16 {
			lens[i] = s
			i++
			continue
		}
		var value uint8
		var times uint
		switch s {
		case 16:
			if i == 0 {
				return z.corrupt()
			}
			value, times = lens[i-1], 3+z.take(2)
		case 17:
			times = 3 + z.take(3)
		default:
			times = 11 + z.take(7)
		}
		if uint(i)+times > uint(len(lens)) {
			return z.corrupt()
		}
		for range times {
			lens[i] = value
			i++
		}
	}
	return nil
}

// makeTables reports whether both codes are sound.
func (z *Reader) makeTables(lit, dist []uint8) bool {
	if !z.code.init(lit) {
		return false
	}
	z.code.fill(z.lit[:], litBits, litEntry[:], 1)
	join(&z.lit)
	if !z.code.init(dist) {
		return false
	}
	z.code.fill(z.dist[:], distBits, distEntry[:], 1|1<<8)
	return true
}
