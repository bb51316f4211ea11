package erofs

import (
	"errors"
	"strings"
	"testing"
)

// What is this large is never written in a test.
func TestMetadataThatNobodyCouldRead(t *testing.T) {
	for name, m := range map[string]metadata{
		"index of chunks": {order: []*inode{{mode: sIFREG, chunkBits: uint8(blocks4K), size: maxMetadata / chunkIndexSize << blocks4K}}},
		"many":            {order: make([]*inode, maxMetadata/maxTarget+1)},
		"blocks":          {order: []*inode{{mode: sIFLNK, size: 4096, more: &more{}}}, base: 1<<32 - 1},
	} {
		t.Run(name, func(t *testing.T) {
			for i, n := range m.order {
				if n == nil {
					m.order[i] = &inode{mode: sIFLNK, size: maxTarget, more: &more{}}
				}
			}
			m.bits = blocks4K
			_, err := m.place()
			if limit := (*LimitError)(nil); !errors.As(err, &limit) || strings.Contains(err.Error(), "--") {
				t.Errorf("got %v, want a LimitError that no flag raises", err)
			}
		})
	}
}
