package inflate

// huffman decodes a block of Huffman codes, until its end or a reason to pause.
func (z *Reader) huffman() error {
	for z.op <= outLimit {
		why := moreInput
		switch {
		case z.end-z.ip >= lowWater:
			why = z.fast()
		case z.n+8*(z.end-z.ip) >= maxSymbol:
			if err := z.need(maxSymbol); err != nil {
				return err
			}
			why = z.symbol()
		case z.pause():
			return nil
		default:
			// A symbol of a valid stream has the end of its block and a trailer of
			// 64 bits behind it, so that there must be more.
			if err := z.fill(); err != nil {
				return err
			}
		}
		switch why {
		case blockEnd:
			z.endBlock()
			return nil
		case badCode:
			return z.corrupt()
		}
	}
	return nil
}

// What fast and symbol stopped for.
const (
	moreInput = iota
	blockEnd
	badCode
)

// fast decodes while there are lowWater bytes of input and room for what one
// round may write. It is one long function because its state has to stay in
// registers, which a call would spill.
func (z *Reader) fast() (why int) {
	b, n := z.b, z.n
	ip, op := z.ip, z.op
	inLimit := z.end - lowWater
	start := z.start

	b |= z.load64in(ip) << (n & 63)
	ip += ^n >> 3 & 7
	n |= 56
	e := z.lit[b&(1<<litBits-1)]
	for ip <= inLimit && op <= outLimit {
		// At least 56 bits are in b, and e is the entry of the first of them. Only
		// the low 6 bits of n count, so that all of e may be subtracted.
		b >>= e & 63
		n -= uint(e)
		z.store32(op, uint32(e>>valueShift))
		op += uint(e >> 8 & 7)
		if e&flagStop == 0 {
			e = z.lit[b&(1<<litBits-1)]
			b >>= e & 63
			n -= uint(e)
			z.store32(op, uint32(e>>valueShift))
			op += uint(e >> 8 & 7)
			if e&flagStop == 0 {
				e = z.lit[b&(1<<litBits-1)]
				b |= z.load64in(ip) << (n & 63)
				ip += ^n >> 3 & 7
				n |= 56
				continue
			}
		}
		// At least 34 bits are left.
		length := uint(e >> lengthShift & lengthMask)
		if e&flagSpecial != 0 {
			b |= z.load64in(ip) << (n & 63)
			ip += ^n >> 3 & 7
			n |= 56
			kind := e >> kindShift & kindMask
			if kind == kindSecond {
				e = z.lit[(e>>valueShift+b&(1<<(e>>12&15)-1))%litSize]
				b >>= e & 63
				n -= uint(e)
				length = uint(e >> lengthShift & lengthMask)
				kind = e >> kindShift & kindMask
				if e&flagStop == 0 {
					z.store32(op, uint32(e>>valueShift))
					op++
					e = z.lit[b&(1<<litBits-1)]
					b |= z.load64in(ip) << (n & 63)
					ip += ^n >> 3 & 7
					n |= 56
					continue
				}
			}
			if kind > kindExtra {
				why = badCode
				if kind == kindEnd {
					why = blockEnd
				}
				break
			}
			length += uint(b & (1<<kind - 1))
			b >>= kind
			n -= uint(kind)
		}

		d := z.dist[b&(1<<distBits-1)]
		if d&flagSpecial != 0 {
			if d>>kindShift&kindMask != kindSecond {
				why = badCode
				break
			}
			b >>= distBits
			n -= distBits
			d = z.dist[(d>>valueShift+b&(1<<(d>>12&15)-1))%distSize]
			if d&flagSpecial != 0 {
				why = badCode
				break
			}
		}
		dist := uint(d>>valueShift + b>>(d>>8&63)&(d>>16&0xffff))
		b >>= d & 63
		n -= uint(d)
		// A refill fills all 64 bits of b, whatever n counts of them. At most 50 are
		// taken, so that litBits are left for the next entry before the next refill.
		e = z.lit[b&(1<<litBits-1)]
		b |= z.load64in(ip) << (n & 63)
		ip += ^n >> 3 & 7
		n |= 56

		src, dst := op-dist, op
		if int(src) < int(start) {
			why = badCode
			break
		}
		op += length
		if dist >= 16 {
			z.copy16(dst, src)
			if length > 16 {
				z.copy16(dst+16, src+16)
				for i := uint(32); i < length; i += 16 {
					z.copy16(dst+i, src+i)
				}
			}
			continue
		}
		if dist >= 8 {
			for i := uint(0); i < length; i += 8 {
				z.store64(dst+i, z.load64(src+i))
			}
			continue
		}
		// Less than a word apart: spread the period over a word, and store that
		// at the largest multiple of dist that fits into a word.
		v := z.load64(src) & (1<<(dist*8&63) - 1)
		v |= v << (dist * 8 & 63)
		v |= v << (dist * 16)
		v |= v << (dist * 32)
		stride := strides >> (dist * 4 & 63) & 15
		for i := uint(0); i < length; i += stride {
			z.store64(dst+i, v)
		}
	}
	z.ip, z.op = ip, op
	z.n = n & 63
	z.b = b & (1<<z.n - 1)
	return why
}

// strides holds 8 - 8%dist for each dist from 1 to 7, four bits each.
const strides uint = 0x76586880

// symbol decodes one entry of the table from the maxSymbol bits that need has
// fetched, where the input is too short for fast.
func (z *Reader) symbol() (why int) {
	e := z.lit[z.b&(1<<litBits-1)]
	if e&flagSpecial != 0 && e>>kindShift&kindMask == kindSecond {
		z.take(uint(e & 63))
		e = z.lit[(e>>valueShift+z.b&(1<<(e>>12&15)-1))%litSize]
	}
	z.take(uint(e & 63))
	z.store32(z.op, uint32(e>>valueShift))
	z.op += uint(e >> 8 & 7)
	if e&flagStop == 0 {
		return moreInput
	}
	length := uint(e >> lengthShift & lengthMask)
	if e&flagSpecial != 0 {
		switch kind := e >> kindShift & kindMask; {
		case kind <= kindExtra:
			length += z.take(uint(kind))
		case kind == kindEnd:
			return blockEnd
		default:
			return badCode
		}
	}
	return z.match(length)
}

// match decodes a distance and copies length bytes from there.
func (z *Reader) match(length uint) (why int) {
	d := z.dist[z.b&(1<<distBits-1)]
	if d&flagSpecial != 0 && d>>kindShift&kindMask == kindSecond {
		z.take(distBits)
		d = z.dist[(d>>valueShift+z.b&(1<<(d>>12&15)-1))%distSize]
	}
	if d&flagSpecial != 0 {
		return badCode
	}
	dist := uint(d>>valueShift + z.b>>(d>>8&63)&(d>>16&0xffff))
	z.take(uint(d & 63))
	if int(z.op)-int(dist) < int(z.start) {
		return badCode
	}
	for range length {
		z.out[z.op] = z.out[z.op-dist]
		z.op++
	}
	return moreInput
}
