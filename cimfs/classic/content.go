package classic

import (
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
)

// Stream is an alternate data stream of a file.
type Stream struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

// OpenStream opens an alternate data stream, whose name may be in any case of its letters.
func (c *CIM) OpenStream(name, stream string) (*io.SectionReader, error) {
	n, err := c.walk(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	r, err := n.stream(stream)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name + ":" + stream, Err: err}
	}
	return r, nil
}

func (n *node) streams() (list []Stream, err error) {
	l, err := n.c.streams(n.file)
	if err != nil {
		return nil, err
	}
	if err := n.c.countStreams(n.id, l); err != nil {
		return nil, err
	}
	if l, err = l.whole(); err != nil {
		return nil, err
	}
	for i := range l.Count {
		raw, err := l.name(i)
		if err != nil {
			return nil, err
		}
		name, err := text(raw)
		if err != nil {
			return nil, err
		}
		s, err := l.stream(i)
		if err != nil {
			return nil, err
		}
		list = append(list, Stream{name, s.size()})
	}
	return list, nil
}

func (n *node) stream(name string) (*io.SectionReader, error) {
	l, err := n.c.streams(n.file)
	if err != nil {
		return nil, err
	}
	i, err := n.c.find(l, name)
	if err != nil {
		return nil, err
	}
	s, err := l.stream(i)
	if err != nil {
		return nil, err
	}
	return n.c.content(s)
}

// stream is the i-th value.
func (l *links) stream(i uint32) (s stream, err error) {
	b, err := l.valueAt(i)
	if err != nil {
		return s, err
	}
	_, err = binary.Decode(b, binary.LittleEndian, &s)
	return s, err
}

// content is what a stream holds.
func (c *CIM) content(s stream) (*io.SectionReader, error) {
	switch {
	case s.kind() > kindPE || s.kind() == kindLinkTable:
		return nil, damage("a stream of kind %d", s.kind())
	case s.sparse():
		return io.NewSectionReader(zeros{}, 0, s.size()), nil
	case s.size() == 0:
		return io.NewSectionReader(zeros{}, 0, 0), nil
	case s.kind() == kindPE:
		r, err := c.image(s)
		if err != nil {
			return nil, fmt.Errorf("PE image: %w", err)
		}
		return io.NewSectionReader(r, 0, s.size()), nil
	}
	return c.section(s.Data, 0, s.size())
}

type zeros struct{}

func (zeros) ReadAt(b []byte, _ int64) (int, error) {
	clear(b)
	return len(b), nil
}
