package inflate_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	kgzip "github.com/klauspost/compress/gzip"

	"github.com/lithify/lithify/convert/inflate"
)

// BenchmarkReader compares the decoders on a tar of the Go sources, on binaries
// and on incompressible data, all by compress/gzip -6. The decoders take turns;
// x-klauspost is the time as a part of klauspost's.
func BenchmarkReader(b *testing.B) {
	random := make([]byte, 16<<20)
	rng := rand.New(rand.NewPCG(7, 8))
	for i := range random {
		random[i] = byte(rng.Uint32())
	}
	for name, data := range map[string]func() []byte{
		"src":    func() []byte { return tarOf(b, filepath.Join(goroot(b), "src")) },
		"bin":    func() []byte { return tarOf(b, filepath.Join(goroot(b), "bin")) },
		"random": func() []byte { return random },
		"zeros":  func() []byte { return make([]byte, 64<<20) },
	} {
		b.Run(name, func(b *testing.B) { compare(b, data()) })
	}
}

func goroot(b *testing.B) string {
	b.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Skipf("no go command: %v", err)
	}
	return strings.TrimSpace(string(out))
}

func compare(b *testing.B, data []byte) {
	if len(data) == 0 {
		b.Skip("no data in GOROOT")
	}
	stream := level6(b, data)
	decoders := []struct {
		name string
		open func(io.Reader) (io.Reader, error)
	}{
		{"inflate", func(r io.Reader) (io.Reader, error) { return inflate.NewReader(r) }},
		{"klauspost", func(r io.Reader) (io.Reader, error) { return kgzip.NewReader(r) }},
		{"stdlib", func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
	}
	buf := make([]byte, 1<<20)
	run := func(i int) time.Duration {
		start := time.Now()
		z, err := decoders[i].open(bytes.NewReader(stream))
		if err != nil {
			b.Fatal(err)
		}
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{z}, buf)
		if err != nil || n != int64(len(data)) {
			b.Fatalf("%d bytes of %d, %v", n, len(data), err)
		}
		return time.Since(start)
	}
	for i, d := range decoders {
		b.Run(d.name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			var own, klauspost time.Duration
			for b.Loop() {
				own += run(i)
				b.StopTimer()
				klauspost += run(1)
				b.StartTimer()
			}
			b.ReportMetric(own.Seconds()/klauspost.Seconds(), "x-klauspost")
		})
	}
}

func tarOf(b *testing.B, dir string) []byte {
	b.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return buf.Bytes()
}
