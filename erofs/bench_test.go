package erofs_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/lithify/lithify/erofs"
)

// randomText is text that compresses about as well as source code.
func randomText(n int) string {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 0, n+16)
	for len(b) < n {
		b = fmt.Appendf(b, "%x ", r.Uint32N(1<<18))
	}
	return string(b[:n])
}

// BenchmarkConvert runs on a tar of many small files and on one of few large
// ones. Its baseline writes the tar as it is.
func BenchmarkConvert(b *testing.B) {
	text := randomText(1 << 20)
	var many, large []entry
	for i := range 8000 {
		many = append(many, file(fmt.Sprintf("node_modules/package-%d/lib/file-%d.js", i/12, i), text[:i*37%16000]))
	}
	for i := range 8 {
		large = append(large, file(fmt.Sprintf("model-%d", i), text+text+text+text+text+text+text+text))
	}
	for name, src := range map[string][]byte{"many": makeTar(b, many...), "large": makeTar(b, large...)} {
		b.Run(name+"/copy", func(b *testing.B) {
			benchmark(b, src, func(f *os.File) error { _, err := io.Copy(f, onlyReader{bytes.NewReader(src)}); return err })
		})
		for _, opts := range []erofs.Options{{}, {Serial: true}, {Profile: erofs.ProfileZstd}, {Verity: true}} {
			b.Run(fmt.Sprintf("%s/profile=%s/serial=%v/verity=%v", name, opts.Profile, opts.Serial, opts.Verity), func(b *testing.B) {
				benchmark(b, src, func(f *os.File) error {
					_, err := erofs.Convert(b.Context(), f, onlyReader{bytes.NewReader(src)}, opts)
					return err
				})
			})
		}
	}
}

// onlyReader hides WriteTo.
type onlyReader struct{ io.Reader }

func benchmark(b *testing.B, src []byte, run func(*os.File) error) {
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	path := filepath.Join(b.TempDir(), "out")
	for b.Loop() {
		f, err := os.Create(path)
		if err != nil {
			b.Fatal(err)
		}
		if err := run(f); err != nil {
			b.Fatal(err)
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
