package erofs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
)

// Mapper is a [File] that lends its bytes where they lie in memory, so that they need
// not be copied to be read back.
type Mapper interface {
	// Map lends n bytes from off on, a multiple of 64 KiB, until release is called, which
	// may be while another call maps. It may say with errors.ErrUnsupported that the file
	// is to be read from off on.
	Map(off int64, n int) (p []byte, release func() error, err error)
}

func mapperOf(f File) Mapper {
	switch f := f.(type) {
	case Mapper:
		return f
	case *os.File:
		return mapped{f}
	}
	return nil
}

type mapped struct{ *os.File }

func (f mapped) Map(off int64, n int) ([]byte, func() error, error) { return MapFile(f.File, off, n) }

// mapWindow is how much is mapped at a time: one window is hashed while the next is
// mapped, and one waits.
const mapWindow = 2 << 20

// window is a stretch of a file that is lent.
type window struct {
	p       []byte
	release func() error
	err     error
}

// copyMapped writes the first size bytes of what m lends to w. What is behind the first n bytes is to be read where the error is errors.ErrUnsupported.
func (c *conversion) copyMapped(ctx context.Context, w io.Writer, m Mapper, size int64) (n int64, err error) {
	if m == nil {
		return 0, errors.ErrUnsupported
	}
	next, stop := lend(ctx, m, size, c.opts.Serial)
	defer stop()
	for n < size {
		win := next()
		if win.err != nil {
			return n, win.err
		}
		var werr error
		err := cmp.Or(faultless(func() { _, werr = w.Write(win.p) }), werr)
		if rerr := win.release(); err == nil {
			err = rerr
		}
		if err != nil {
			return n, err
		}
		n += int64(len(win.p))
	}
	return n, nil
}

// lend maps the windows of m in order, ahead of next unless in serial mode. After the
// last one, and after an error, next must not be called.
func lend(ctx context.Context, m Mapper, size int64, serial bool) (next func() window, stop func()) {
	off := int64(0)
	one := func() (win window) {
		if win.err = context.Cause(ctx); win.err != nil {
			return win
		}
		win.p, win.release, win.err = m.Map(off, int(min(mapWindow, size-off)))
		off += int64(len(win.p))
		return win
	}
	if serial {
		return one, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	ahead := make(chan window, 1)
	go func() {
		defer close(ahead)
		for off < size {
			win := one()
			ahead <- win
			if win.err != nil {
				return
			}
		}
	}()
	return func() window { return <-ahead }, func() {
		cancel()
		for win := range ahead {
			if win.err == nil {
				win.release()
			}
		}
	}
}

// faultless calls f, which reads memory that lies in a file. A page that cannot be
// read, because of the disk or of somebody who cut the file, is a signal: it becomes an
// error.
func faultless(f func()) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			fault, ok := r.(interface {
				runtime.Error
				Addr() uintptr
			})
			if !ok {
				panic(r)
			}
			err = fmt.Errorf("a page of the mapped file cannot be read (fault at %#x)", fault.Addr())
		}
	}()
	f()
	return nil
}
