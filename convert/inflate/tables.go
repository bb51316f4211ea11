package inflate

import "math/bits"

const (
	maxCodeLen = 15
	maxLit     = 286 // symbols a dynamic block may give codes to
	maxDist    = 30
	endOfBlock = 256

	litBits  = 11 // index bits of the first literal/length table
	distBits = 9  // index bits of the first distance table
	preBits  = 7  // longest code of the code length code

	// A complete code has at least two symbols below each prefix of litBits that
	// it prolongs, so half the symbols bound the second tables.
	litSize  = 1<<litBits + 288/2<<(maxCodeLen-litBits)
	distSize = 1<<distBits + 32/2<<(maxCodeLen-distBits)
)

// A litlen is an entry of the literal/length table. One look-up gives up to four
// literals, or up to four literals and the match length that follows them:
//
//	0-5    bits to take from the input
//	6      a match length follows the literals
//	7      special: see below
//	8-10   number of literals
//	16-24  match length, or its base if special
//	32-63  literals, the first one lowest
//
// A special entry holds no literals. Its bits 26-31 say what it is: a length
// whose extra bits did not fit into the index (their number), the end of the
// block, no code at all, or a second table (then 32-63 is where it starts).
type litlen = uint64

const (
	flagLength  = 1 << 6
	flagSpecial = 1 << 7
	flagStop    = flagLength | flagSpecial
	oneLiteral  = 1 << 8

	lengthShift = 16
	lengthMask  = 1<<9 - 1
	kindShift   = 26
	kindMask    = 1<<6 - 1
	valueShift  = 32

	kindExtra  = 15 // 0 to 5 are extra bits; anything up to kindExtra is a length
	kindEnd    = 16
	kindNoCode = 17
	kindSecond = 18
)

// A distance is an entry of the distance table:
//
//	0-5    bits to take from the input, extra bits included
//	7      special: no code or a second table, as in a litlen
//	8-13   bits of the code alone
//	16-31  mask of the extra bits
//	32-63  smallest distance, or where the second table starts
type distance = uint64

const noCode litlen = flagSpecial | kindNoCode<<kindShift

// The entry of each symbol without the bits of its code.
var (
	litEntry  = litEntries()
	distEntry = distEntries()
)

func litEntries() (t [288]litlen) {
	for s := range 256 {
		t[s] = uint64(s)<<valueShift | oneLiteral
	}
	t[endOfBlock] = flagSpecial | kindEnd<<kindShift
	length := uint64(3)
	for s := 257; s < 285; s++ {
		extra := uint64(max(0, (s-261)/4))
		t[s] = length<<lengthShift | extra<<kindShift | flagLength
		if extra > 0 {
			t[s] ^= flagStop
		}
		length += 1 << extra
	}
	t[285] = 258<<lengthShift | flagLength
	t[286], t[287] = noCode, noCode
	return t
}

func distEntries() (t [32]distance) {
	dist := uint64(1)
	for s := range maxDist {
		extra := uint64(max(0, (s-2)/2))
		t[s] = dist<<valueShift | (1<<extra-1)<<16 | extra
		dist += 1 << extra
	}
	t[30], t[31] = flagSpecial, flagSpecial
	return t
}

// A code sorts the symbols of a Huffman code by length, as canonical codes
// demand.
type code struct {
	count   [maxCodeLen + 1]uint16
	sorted  [288]uint16
	longest int
}

// init reports whether the lengths make a code. Like compress/flate and zlib it
// takes a complete code, a single code of length 1, and no code at all.
func (c *code) init(lens []uint8) bool {
	c.count = [maxCodeLen + 1]uint16{}
	for _, n := range lens {
		c.count[n&maxCodeLen]++
	}
	c.count[0] = 0
	var next [maxCodeLen + 1]uint16
	sum, at := 0, uint16(0)
	c.longest = 0
	for n := 1; n <= maxCodeLen; n++ {
		next[n] = at
		at += c.count[n]
		sum += int(c.count[n]) << (maxCodeLen - n)
		if c.count[n] != 0 {
			c.longest = n
		}
	}
	for s, n := range lens {
		if n != 0 {
			i := next[n&maxCodeLen]
			next[n&maxCodeLen] = i + 1
			c.sorted[i] = uint16(s)
		}
	}
	return at == 0 || sum == 1<<maxCodeLen || at == 1 && c.longest == 1
}

// fill writes the entries of all symbols into table, whose first part has 1<<root
// entries: values[symbol] plus unit for each bit of its code. It starts small and
// doubles the table with each longer code.
func (c *code) fill(table []uint64, root int, values []uint64, unit uint64) {
	first := table[:1<<root]
	if c.longest <= 1 && c.count[1] < 2 { // no code, or a single one
		for i := range first {
			first[i] = noCode | 1
		}
		if c.longest == 0 {
			return
		}
	}
	word, next := 0, 0 // word is the code, first bit lowest
	have := 0          // entries of first that are in use
	for n := 1; n <= min(root, c.longest); n++ {
		if have > 0 {
			copy(first[have:2*have], first[:have])
			have *= 2
		}
		if c.count[n] == 0 {
			continue
		}
		have = 1 << n
		for _, s := range c.sorted[next : next+int(c.count[n])] {
			first[word] = values[s] + uint64(n)*unit
			word = following(word, n)
		}
		next += int(c.count[n])
	}
	for ; have < len(first); have *= 2 {
		copy(first[have:2*have], first[:have])
	}
	if c.longest > root {
		c.fillSecond(table, root, word, next, values, unit)
	}
}

// fillSecond writes the codes longer than root bits, from word and sorted[next]
// on. All second tables are as long as the longest code needs.
func (c *code) fillSecond(table []uint64, root, word, next int, values []uint64, unit uint64) {
	size := 1 << (c.longest - root)
	end := 1 << root
	prefix := -1
	for n := root + 1; n <= c.longest; n++ {
		for _, s := range c.sorted[next : next+int(c.count[n])] {
			if p := word & (1<<root - 1); p != prefix {
				prefix = p
				table[p] = second(root, c.longest-root, end)
				end += size
			}
			e := values[s] + uint64(n-root)*unit
			for i := end - size + word>>root; i < end; i += 1 << (n - root) {
				table[i] = e
			}
			word = following(word, n)
		}
		next += int(c.count[n])
	}
}

// second is the entry that leads to a second table: its index bits are in bits
// 12-15, where neither kind of table has anything else in a special entry.
func second(root, indexBits, at int) uint64 {
	return uint64(at)<<valueShift | kindSecond<<kindShift | uint64(indexBits)<<12 | flagSpecial | uint64(root)
}

// following is the next code of n bits, in reversed bit order; 0 after the last.
func following(word, n int) int {
	free := ^word & (1<<n - 1)
	if free == 0 {
		return 0
	}
	bit := 1 << (bits.Len(uint(free)) - 1)
	return word&(bit-1) | bit
}

// join puts into one entry as many symbols as the index bits of the first table
// decide: the extra bits of a length, more literals after a literal, a length
// after literals. It goes down because entry i refers to entries below it.
//
// It takes an eighth of all the time, for blocks of 16,384 symbols as zlib writes
// them. Masks in place of its branches were no better (CPU time, least of 10 runs:
// Go sources 5 % less, Go binaries, Python and node_modules 12 to 19 % more).
func join(table *[litSize]litlen) {
	for i := uint64(1<<litBits - 1); i < 1<<litBits; i-- {
		e := table[i]
		if e&flagStop != 0 {
			if e&flagSpecial != 0 {
				table[i] = resolve(e, i, litBits)
			}
			continue
		}
		used := e & 63
		for at := uint64(valueShift + 8); at < 64; at += 8 {
			f := table[i>>used]
			if used+f&63 > litBits {
				break
			}
			if f&flagSpecial != 0 {
				if f = resolve(f, i>>used, litBits-used); f&flagSpecial != 0 {
					break
				}
			}
			used += f & 63
			e += f&(1<<valueShift-1) + f>>valueShift<<at
			if f&flagLength != 0 {
				break
			}
		}
		table[i] = e
	}
}

// resolve takes the extra bits of a length from index, which follows from the
// start of its code, if they are within its first n bits.
func resolve(e litlen, index, n uint64) litlen {
	extra := e >> kindShift & kindMask
	if e&flagSpecial == 0 || extra > kindExtra || e&63+extra > n {
		return e
	}
	length := e>>lengthShift&lengthMask + index>>(e&63)&(1<<extra-1)
	return length<<lengthShift | flagLength | e&63 + extra
}
