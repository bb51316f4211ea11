package erofs

import (
	"cmp"
	"slices"
)

// packer places inodes as [metadata.placeInode] does, but in the gaps that those with much
// behind them have left, where there are such: first those that take more than half a
// block, then those that take more than a quarter, and so on, so that what is small fills
// the gaps. Each goes where it fits best, in units of 32 bytes.
type packer struct {
	m    *metadata
	gaps [][]int64 // by size in units: where they begin
	end  int64     // of what has been placed
}

func newPacker(m *metadata) *packer {
	return &packer{m: m, gaps: make([][]int64, m.bits.size()/nidUnit+1), end: rootNID * nidUnit}
}

// placeAll places all inodes, sorts them by where they are, and gives the end of the last.
func (p *packer) placeAll() int64 {
	sizes := make([]int64, len(p.m.order))
	for i, n := range p.m.order {
		sizes[i] = p.size(n)
	}
	p.append(p.m.order[0]) // the root, which has its place
	for least := p.m.bits.size() / 2; least > 0; least /= 2 {
		for i, n := range p.m.order[1:] {
			size := sizes[i+1]
			if size <= least || size > 2*least && least < p.m.bits.size()/2 {
				continue
			}
			if p.place(n, size); p.end > maxMetadata {
				return p.end
			}
		}
	}
	slices.SortFunc(p.m.order, func(a, b *inode) int { return cmp.Compare(a.nid, b.nid) })
	return p.end
}

// size is what an inode takes with what lies behind it.
func (p *packer) size(n *inode) int64 {
	block := p.m.bits.size()
	if n.isDir() {
		n.size = dirSize(p.m.list(n), int(block))
	}
	size := n.head() + n.wantsTail(block)
	if size > block {
		size = n.head() // and placeInode leaves the tail to a block of its own
	}
	return align(size, nidUnit)
}

func (p *packer) place(n *inode, size int64) {
	room := -p.end & (p.m.bits.size() - 1) // in the last block
	if gap, ok := p.take(size, room); ok {
		p.m.placeInode(n, gap)
		return
	}
	p.append(n)
}

// append places an inode behind all others.
func (p *packer) append(n *inode) {
	was := p.end
	p.end = align(p.m.placeInode(n, p.end), nidUnit)
	p.leave(was, int64(n.nid)*nidUnit-was)
}

// take gives the smallest gap that size fits into, if that is smaller than the room in
// the last block, or there is not room enough. What remains of it stays a gap.
func (p *packer) take(size, room int64) (int64, bool) {
	for u := size / nidUnit; u < int64(len(p.gaps)); u++ {
		if size <= room && u*nidUnit >= room {
			break
		}
		if k := len(p.gaps[u]) - 1; k >= 0 {
			at := p.gaps[u][k]
			p.gaps[u] = p.gaps[u][:k]
			p.leave(at+size, u*nidUnit-size)
			return at, true
		}
	}
	return 0, false
}

// leave notes a gap that an inode may lie in.
func (p *packer) leave(at, size int64) {
	if size >= inodeSize {
		p.gaps[size/nidUnit] = append(p.gaps[size/nidUnit], at)
	}
}
