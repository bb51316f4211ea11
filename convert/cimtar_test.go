package convert_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/erofs"
)

// TestCIMTar reads a layer as hcsshim does, which is silent where it does not.
func TestCIMTar(t *testing.T) {
	var said []string
	quiet := func(_ context.Context, bound time.Duration, why string) func() {
		if bound <= 0 {
			t.Errorf("%s has no bound", why)
		}
		said = append(said, "("+why)
		return func() { said = append(said, ")") }
	}
	opts := convert.Options{Quiet: quiet, Limits: erofs.Limits{Bytes: 3}}
	r, end := convert.CIMTar(t.Context(), iotest.OneByteReader(strings.NewReader("tar")), opts)
	if b, err := io.ReadAll(r); err != nil || string(b) != "tar" {
		t.Errorf("read %q, %v", b, err)
	}
	end()
	want := []string{"(other block CIMs are written", ")", "(the block CIM is written", ")", "(the block CIM is written", ")", "(the block CIM is written", ")", "(the block CIM is written", ")"}
	if !slices.Equal(said, want) {
		t.Errorf("said %q, want %q", said, want)
	}
	r, end = convert.CIMTar(t.Context(), strings.NewReader("tars"), opts)
	defer end()
	for range 2 { // whoever reads on gets no more
		var b bytes.Buffer
		_, err := io.Copy(&b, r)
		if limit := (*erofs.LimitError)(nil); !errors.As(err, &limit) || limit.Flag != "--max-bytes" || b.Len() > 3 || !convert.Permanent(err) {
			t.Errorf("read %q, %v; want a limit that another attempt meets, too", b.String(), err)
		}
	}
}
