package erofs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lithify/lithify/erofs"
)

// lender is a file that lends its bytes, at a price.
type lender struct {
	*os.File
	before  func(f *os.File, off int64) error
	lent    atomic.Int32
	windows atomic.Int32
}

func (l *lender) Map(off int64, n int) ([]byte, func() error, error) {
	if err := l.before(l.File, off); err != nil {
		return nil, nil, err
	}
	p, release, err := erofs.MapFile(l.File, off, n)
	if err != nil {
		return nil, nil, err
	}
	l.lent.Add(1)
	l.windows.Add(1)
	return p, func() error { l.lent.Add(-1); return release() }, nil
}

// TestMapped: what is mapped to be read back has the digests of what is read, every
// window is given back, and one that cannot be read is an error and no crash.
func TestMapped(t *testing.T) {
	data := make([]byte, 9<<20)
	rand.NewChaCha8([32]byte{1}).Read(data)
	src := makeTar(t, file("data", string(data)))
	var mem memFile
	want, err := erofs.Convert(t.Context(), &mem, bytes.NewReader(src), erofs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	for _, serial := range []bool{false, true} {
		for name, tc := range map[string]struct {
			before  func(*os.File, int64) error
			says    string
			windows int32
		}{
			"whole":       {func(*os.File, int64) error { return nil }, "", 5},
			"unsupported": {func(*os.File, int64) error { return errors.ErrUnsupported }, "", 0},
			"unsupported later": {func(_ *os.File, off int64) error {
				if off > 0 {
					return errors.ErrUnsupported
				}
				return nil
			}, "", 1},
			"fails": {func(_ *os.File, off int64) error {
				if off > 0 {
					return broken
				}
				return nil
			}, "broken", 1},
			"cut": {func(f *os.File, off int64) error {
				if off > 0 {
					return nil
				}
				return f.Truncate(1 << 20)
			}, "fault at", -1},
		} {
			t.Run(fmt.Sprintf("%s,serial=%v", name, serial), func(t *testing.T) {
				f, err := os.Create(filepath.Join(t.TempDir(), "blob"))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				l := &lender{File: f, before: tc.before}
				got, err := erofs.Convert(t.Context(), l, bytes.NewReader(src), erofs.Options{Serial: serial})
				if tc.says == "" {
					if d := cmp.Diff(want, got); d != "" || err != nil {
						t.Errorf("%v, -read +mapped:\n%s", err, d)
					}
				} else if err == nil || !strings.Contains(err.Error(), tc.says) {
					t.Errorf("got %v, want an error that says %q", err, tc.says)
				}
				if lent, windows := l.lent.Load(), l.windows.Load(); lent != 0 || tc.windows >= 0 && windows != tc.windows {
					t.Errorf("%d windows, %d of them not given back, want %d and none", windows, lent, tc.windows)
				}
			})
		}
	}
}

// TestMappedCancel: a conversion that is ended while it reads back says why.
func TestMappedCancel(t *testing.T) {
	src := makeTar(t, file("data", strings.Repeat("x", 9<<20)))
	why := errors.New("the worker is drained")
	for _, serial := range []bool{false, true} {
		f, err := os.Create(filepath.Join(t.TempDir(), "blob"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		ctx, cancel := context.WithCancelCause(t.Context())
		l := &lender{File: f, before: func(*os.File, int64) error { cancel(why); return nil }}
		if _, err := erofs.Convert(ctx, l, bytes.NewReader(src), erofs.Options{Serial: serial}); !errors.Is(err, why) {
			t.Errorf("serial %v: got %v, want %v", serial, err, why)
		}
		if lent := l.lent.Load(); lent != 0 {
			t.Errorf("serial %v: %d windows not given back", serial, lent)
		}
	}
}
