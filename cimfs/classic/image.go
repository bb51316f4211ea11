package classic

import (
	"io"
	"sort"
)

// image is the content of a PE image.
type image struct {
	data io.ReaderAt
	runs []run // from the first byte to the last, without gaps
}

// run are the bytes of a file from off to end, which in the data are delta further on.
type run struct{ off, end, delta int64 }

func (c *CIM) image(s stream) (*image, error) {
	var pe peImage
	if err := c.read(s.Data, 0, &pe); err != nil {
		return nil, err
	}
	mappings := make([]peMapping, pe.MappingCount)
	if err := c.read(s.Data, peImageSize, mappings); err != nil {
		return nil, err
	}
	size := s.size()
	runs := []run{{0, size, 0}} // what is before the first mapping is where it is in the file
	for _, m := range mappings {
		last, off := &runs[len(runs)-1], min(int64(m.FileOffset), size)
		if off < last.off {
			return nil, damage("a mapping of byte %d behind that of %d", off, last.off)
		}
		last.end = off
		runs = append(runs, run{off, size, int64(m.Delta)})
	}
	var length int64
	for _, r := range runs {
		if r.off < r.end {
			length = max(length, r.end+r.delta)
		}
	}
	data, err := c.section(pe.Data, 0, length)
	return &image{data, runs}, err
}

// ReadAt reads what is within the file.
func (m *image) ReadAt(b []byte, off int64) (n int, err error) {
	for n < len(b) {
		at := off + int64(n)
		r := m.runs[sort.Search(len(m.runs), func(i int) bool { return m.runs[i].end > at })]
		piece := b[n:min(int64(len(b)), int64(n)+r.end-at)]
		got, err := m.data.ReadAt(piece, at+r.delta)
		if n += got; got < len(piece) {
			return n, err
		}
	}
	return n, nil
}
