package inflate_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/bits"
	"math/rand/v2"
	"testing"

	"github.com/lithify/lithify/convert/inflate"
)

// bitWriter writes DEFLATE streams that no compressor would.
type bitWriter struct {
	buf []byte
	n   uint
}

func (w *bitWriter) bits(v, n uint) {
	for range n {
		if w.n%8 == 0 {
			w.buf = append(w.buf, 0)
		}
		w.buf[w.n/8] |= byte(v&1) << (w.n % 8)
		v >>= 1
		w.n++
	}
}

// code writes a Huffman code, its first bit highest.
func (w *bitWriter) code(v, n uint) { w.bits(uint(bits.Reverse16(uint16(v))>>(16-n)), n) }

type symbol func(w *bitWriter)

func literal(c byte) symbol {
	return func(w *bitWriter) { w.code(0x30+uint(c), 8) } // c < 144
}

// match is length 3 to 10 and distance 1 to 4, or any distance symbol as rawMatch.
func match(length, dist uint) symbol {
	if dist > 4 {
		return rawMatch(length, 4, dist-5, 1)
	}
	return rawMatch(length, dist-1, 0, 0)
}

func rawMatch(length, distSymbol, extra, extraBits uint) symbol {
	return func(w *bitWriter) {
		w.code(length-3+1, 7)
		w.code(distSymbol, 5)
		w.bits(extra, extraBits)
	}
}

func rawCode(v, n uint) symbol { return func(w *bitWriter) { w.code(v, n) } }

// fixed is a last block with the fixed code.
func fixed(symbols ...symbol) []byte {
	w := &bitWriter{}
	w.bits(1, 1)
	w.bits(1, 2)
	for _, s := range symbols {
		s(w)
	}
	w.code(0, 7)
	return w.buf
}

// dynamic is a last block with the given code lengths, all written with 4 bits,
// and then body.
func dynamic(lit, dist []uint, body func(w *bitWriter)) []byte {
	w := &bitWriter{}
	w.bits(1, 1)
	w.bits(2, 2)
	w.bits(uint(len(lit)-257), 5)
	w.bits(uint(len(dist)-1), 5)
	w.bits(15, 4)
	for i := range 19 {
		n := uint(4) // symbols 0 to 15; 16, 17 and 18 come first in the order
		if i < 3 {
			n = 0
		}
		w.bits(n, 3)
	}
	for _, l := range append(append([]uint{}, lit...), dist...) {
		w.code(l, 4)
	}
	body(w)
	return w.buf
}

func member(deflate, data []byte) []byte {
	m := append([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3}, deflate...)
	m = binary.LittleEndian.AppendUint32(m, crc32.ChecksumIEEE(data))
	return binary.LittleEndian.AppendUint32(m, uint32(len(data)))
}

func TestFixedBlocks(t *testing.T) {
	a := literal('a')
	for _, test := range []struct {
		name    string
		symbols []symbol
		data    string // if good
	}{
		{"empty", nil, ""},
		{"match", []symbol{a, match(5, 1)}, "aaaaaa"},
		{"match at start", []symbol{match(3, 1)}, ""},
		{"too far by one", []symbol{a, a, match(3, 3)}, ""},
		{"length symbol 286", []symbol{a, rawCode(0xc6, 8), rawCode(0, 5)}, ""},
		{"distance symbol 30", []symbol{a, rawMatch(3, 30, 0, 0)}, ""},
		{"distance symbol 31", []symbol{a, rawMatch(3, 31, 0, 0)}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := member(fixed(test.symbols...), []byte(test.data))
			same(t, m)
			// The same in the fast loop: more input follows than it needs.
			more := append(m, member(make([]byte, 100), nil)...)
			same(t, more)
			got, err := decode(bytes.NewReader(m))
			_, moreErr := decode(bytes.NewReader(more))
			if corrupt := new(inflate.CorruptError); err != nil && (!errors.As(err, corrupt) || !errors.As(moreErr, corrupt)) {
				t.Errorf("%v and in the fast loop %v, want a CorruptError", err, moreErr)
			}
			if good := test.data != "" || len(test.symbols) == 0; good != (err == nil) || good && string(got) != test.data {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// TestLongestDistance repeats 32768 bytes by matches of that distance, over more
// than the output buffer.
func TestLongestDistance(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	data := make([]byte, 32768)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	stored := binary.LittleEndian.AppendUint16([]byte{0}, 32768)
	stored = binary.LittleEndian.AppendUint16(stored, ^uint16(32768))
	stored = append(stored, data...)
	var matches []symbol
	for range 100_000 {
		matches = append(matches, rawMatch(10, 29, 8191, 13))
	}
	for i := range 1_000_000 {
		data = append(data, data[i])
	}
	got, err := decode(bytes.NewReader(member(append(stored, fixed(matches...)...), data)))
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, want %d, or others; error %v", len(got), len(data), err)
	}
}

func lens(n int, set map[int]uint) []uint {
	l := make([]uint, n)
	for i, v := range set {
		l[i] = v
	}
	return l
}

func TestDynamicCodes(t *testing.T) {
	zeros := func(n uint) func(*bitWriter) { return func(w *bitWriter) { w.bits(0, n) } }
	ones := func(n uint) func(*bitWriter) { return func(w *bitWriter) { w.bits(1<<n-1, n) } }
	stop := []uint{0}
	for _, test := range []struct {
		name      string
		lit, dist []uint
		body      func(*bitWriter)
		good      bool
	}{
		{"only the end, length 1", lens(257, map[int]uint{256: 1}), stop, zeros(1), true},
		{"only the end, bit 1", lens(257, map[int]uint{256: 1}), stop, ones(1), false},
		{"only the end, length 2", lens(257, map[int]uint{256: 2}), stop, zeros(2), false},
		{"no codes", lens(257, nil), stop, zeros(10), false},
		{"complete", lens(257, map[int]uint{97: 1, 256: 1}), stop, ones(1), true},
		{"incomplete", lens(257, map[int]uint{97: 2, 98: 2, 256: 2}), stop, zeros(30), false},
		{"oversubscribed", lens(257, map[int]uint{97: 1, 98: 1, 256: 1}), stop, zeros(30), false},
		{"one distance", lens(258, map[int]uint{97: 1, 256: 2, 257: 2}), []uint{1},
			func(w *bitWriter) { w.code(0, 1); w.code(3, 2); w.code(0, 1); w.code(2, 2) }, true},
		{"one distance, bit 1", lens(258, map[int]uint{97: 1, 256: 2, 257: 2}), []uint{1},
			func(w *bitWriter) { w.code(0, 1); w.code(3, 2); w.code(1, 1); w.code(2, 2) }, false},
		{"one distance, length 2", lens(258, map[int]uint{97: 1, 256: 2, 257: 2}), []uint{2},
			func(w *bitWriter) { w.code(0, 1); w.code(2, 2) }, false},
		{"no distance", lens(258, map[int]uint{97: 1, 256: 2, 257: 2}), stop,
			func(w *bitWriter) { w.code(0, 1); w.code(3, 2); w.code(0, 1); w.code(2, 2) }, false},
		{"oversubscribed distances", lens(257, map[int]uint{97: 1, 256: 1}), []uint{1, 1, 1}, ones(1), false},
		{"287 symbols", lens(287, map[int]uint{97: 1, 256: 1}), stop, ones(1), false},
		{"31 distances", lens(257, map[int]uint{97: 1, 256: 1}), make([]uint, 31), ones(1), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			block := dynamic(test.lit, test.dist, test.body)
			data, _ := decode(bytes.NewReader(member(block, nil)))
			m := member(block, data)
			same(t, m)
			same(t, append(m, member(make([]byte, 100), nil)...))
			if _, err := decode(bytes.NewReader(m)); (err == nil) != test.good {
				t.Errorf("%v, want good %v", err, test.good)
			}
		})
	}
}

// TestRandomCodes decodes random bits with random complete codes of all lengths.
func TestRandomCodes(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		lit, dist := randomCode(rng, 286), randomCode(rng, 30)
		block := dynamic(lit, dist, func(w *bitWriter) {
			// Literals first, so that distances reach something.
			for range 2000 {
				w.bits(uint(rng.Uint32()), 32)
			}
		})
		same(t, member(block, nil))
	}
}

// randomCode makes a complete code by splitting random leaves.
func randomCode(rng *rand.Rand, symbols int) []uint {
	leaves := []uint{0}
	for want := 2 + rng.IntN(symbols-1); len(leaves) < want; {
		i := rng.IntN(len(leaves))
		if rng.IntN(3) == 0 {
			i = len(leaves) - 1 // deep
		}
		if leaves[i] == 15 {
			continue
		}
		leaves[i]++
		leaves = append(leaves, leaves[i])
	}
	all := make([]uint, max(symbols, 257))
	if symbols < 257 {
		all = all[:symbols]
	}
	copy(all, leaves)
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}
