package erofs

import "sync/atomic"

// chunk is a buffer that several stages read at once. The last of them to let
// go puts it back into its pool.
type chunk struct {
	buf  []byte // cap is the pool's size
	refs atomic.Int32
	pool *chunkPool
}

func (c *chunk) retain() { c.refs.Add(1) }

func (c *chunk) release() {
	if c.refs.Add(-1) == 0 {
		c.pool.free <- c
	}
}

// chunkPool holds a fixed number of chunks, allocated on first use. That number
// bounds memory and makes a fast stage wait for a slow one.
type chunkPool struct {
	free chan *chunk
	size int
}

func newChunkPool(n, size int) *chunkPool {
	p := &chunkPool{free: make(chan *chunk, n), size: size}
	for range n {
		p.free <- &chunk{pool: p}
	}
	return p
}

// take waits for a free chunk; the caller holds the one reference to it.
func (p *chunkPool) take() *chunk { return p.open(<-p.free) }

func (p *chunkPool) open(c *chunk) *chunk {
	if c.buf == nil {
		c.buf = make([]byte, p.size)
	}
	c.buf = c.buf[:p.size]
	c.refs.Store(1)
	return c
}
