package erofs_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/erofs/erofstest"
	"github.com/opencontainers/go-digest"
)

// chunky is a layer with files on both sides of every rule for chunks.
func chunky(t testing.TB, more ...entry) []byte {
	text := randomText(6 << 20)
	r := rand.New(rand.NewPCG(5, 6))
	entries := []entry{dir("./", 0o755)}
	for i := range 600 {
		entries = append(entries, file(fmt.Sprintf("small/%d", i), text[r.IntN(1<<20):][:r.IntN(40_000)]))
	}
	for _, n := range []int{1<<20 - 1, 1 << 20, 4 << 20, 4<<20 + 1, 5 << 20, 100, 1200 << 10, 100} {
		entries = append(entries, file(fmt.Sprintf("large/%d-%d", n, len(entries)), text[:n]))
	}
	return makeTar(t, append(entries, more...)...)
}

// TestChunks: every chunk is one frame of its own that holds what the index says, in
// the form that the draft gives it, and `zstd` reads the blob.
func TestChunks(t *testing.T) {
	for name, src := range map[string][]byte{"chunky": chunky(t), "odd": oddLayer(t), "empty": {}} {
		for _, verity := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,verity=%v", name, verity), func(t *testing.T) {
				f, l := mustConvert(t, src, erofs.Options{Profile: erofs.ProfileZstd, Verity: verity})
				blob, image := blobOf(t, f), uncompressed(t, f, l)
				x := *l.Chunks
				if x.Offset%4 != 0 || x.End != l.Size {
					t.Errorf("the index lies at %d to %d of %d bytes", x.Offset, x.End, l.Size)
				}
				chunks, err := erofs.ReadChunkIndex(f, l.Size, x)
				if err != nil {
					t.Fatal(err)
				}
				checkFrames(t, blob[:x.Offset], image, chunks)
				checkIndexBytes(t, blob[x.Offset:], x, chunks, len(image))
				t.Run("zstd", func(t *testing.T) {
					out, err := exec.CommandContext(t.Context(), erofstest.Program(t, "zstd"), "-dc", f.Name()).Output()
					if err != nil || !bytes.Equal(out, image) {
						t.Errorf("zstd -dc: %v, %d bytes instead of %d", err, len(out), len(image))
					}
				})
			})
		}
	}
}

func checkFrames(t *testing.T, frames, image []byte, chunks []erofs.Chunk) {
	t.Helper()
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	var at, in int64
	for i, c := range chunks {
		if c.Offset != at || c.ImageOffset != in {
			t.Fatalf("chunk %d begins at %d and %d, the one before it ends at %d and %d", i, c.Offset, c.ImageOffset, at, in)
		}
		at, in = at+c.Size, in+c.ImageSize
		if at > int64(len(frames)) || in > int64(len(image)) {
			t.Fatalf("chunk %d ends behind the frames or the image", i)
		}
		frame := frames[c.Offset:at]
		if sha256.Sum256(frame) != c.SHA256 {
			t.Errorf("chunk %d has another digest", i)
		}
		if n := bytes.Count(frame, []byte{0x28, 0xB5, 0x2F, 0xFD}); n != 1 {
			t.Errorf("chunk %d holds the magic number of %d frames", i, n)
		}
		if got, err := dec.DecodeAll(frame, nil); err != nil || !bytes.Equal(got, image[c.ImageOffset:in]) {
			t.Errorf("chunk %d does not hold bytes %d to %d of the image: %v", i, c.ImageOffset, in, err)
		}
	}
	if at != int64(len(frames)) || in != int64(len(image)) {
		t.Errorf("the chunks end at %d and %d, of %d and %d", at, in, len(frames), len(image))
	}
}

// checkIndexBytes reads the frame by the draft's tables (3.4.1, 3.4.2), not by the
// package's constants.
func checkIndexBytes(t *testing.T, b []byte, x erofs.ChunkIndex, chunks []erofs.Chunk, imageSize int) {
	t.Helper()
	le := binary.LittleEndian
	if m := le.Uint32(b); m < 0x184D2A50 || m > 0x184D2A5F || int(le.Uint32(b[4:])) != len(b)-8 {
		t.Fatalf("% x begins no skippable frame of %d bytes", b[:8], len(b))
	}
	b = b[8:]
	if digest.FromBytes(b) != x.Digest {
		t.Error("the digest is not the index's")
	}
	want := []byte{0xCD, 0xE4, 0xEC, 0x67, 1, 1, 0, 0}
	want = le.AppendUint64(want, uint64(imageSize))
	want = le.AppendUint32(want, uint32(len(chunks)))
	want = append(want, 1, 32)
	want = append(want, make([]byte, 10)...)
	for _, c := range chunks {
		want = le.AppendUint64(want, uint64(c.Offset))
		want = le.AppendUint64(want, uint64(c.ImageOffset))
		want = append(want, c.SHA256[:]...)
	}
	if !bytes.Equal(b, want) {
		t.Error("the index's bytes are not the draft's")
	}
}

// TestChunkBorders: the rules of where chunks begin, by what they are for.
func TestChunkBorders(t *testing.T) {
	chunksOf := func(src []byte) map[[32]byte]int64 {
		f, l := mustConvert(t, src, erofs.Options{Profile: erofs.ProfileZstd})
		chunks, err := erofs.ReadChunkIndex(f, l.Size, *l.Chunks)
		if err != nil {
			t.Fatal(err)
		}
		m := map[[32]byte]int64{}
		for i, c := range chunks[1 : len(chunks)-1] { // block 0 and the metadata differ
			if m[c.SHA256] = c.Size; c.ImageSize > 4<<20 || c.ImageOffset%4096 != 0 {
				t.Errorf("chunk %d: %+v", i+1, c)
			}
		}
		return m
	}
	old := chunksOf(chunky(t))
	if len(old) < 12 {
		t.Errorf("%d chunks: the files of 1 MiB and more have none of their own", len(old))
	}
	for name, changed := range map[string][]byte{
		"a file behind":  chunky(t, file("late", "x")),
		"a file before":  append(makeTar(t, file("early", strings.Repeat("x", 5000)))[:512+5120], chunky(t)...),
		"a changed file": bytes.Replace(chunky(t), []byte(randomText(6 << 20)[:40]), []byte(strings.Repeat("y", 40)), 1),
	} {
		var all, shared int64
		for sum, size := range chunksOf(changed) {
			if all += size; old[sum] != 0 {
				shared += size
			}
		}
		if shared < all*3/4 {
			t.Errorf("%s: of %d bytes in chunks %d are in those of the layer before", name, all, shared)
		}
	}
}

// counting counts what is read of a blob.
type counting struct {
	io.ReaderAt
	mu    sync.Mutex
	calls int
	bytes int
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	c.mu.Lock()
	c.calls++
	c.bytes += len(p)
	c.mu.Unlock()
	return c.ReaderAt.ReadAt(p, off)
}

// TestChunkReader reads at random, from many goroutines, and no more than it has to.
func TestChunkReader(t *testing.T) {
	f, l := mustConvert(t, chunky(t), erofs.Options{Profile: erofs.ProfileZstd, Verity: true})
	image := uncompressed(t, f, l)
	blob := &counting{ReaderAt: f}
	r, err := erofs.OpenImage(blob, erofs.DialectSpec.Descriptor(l, true))
	if err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(io.NewSectionReader(r, 0, int64(len(image))), image); err != nil {
		t.Error(err)
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 1))
			for range 200 {
				off := rnd.IntN(len(image))
				p := make([]byte, rnd.IntN(3<<20>>rnd.IntN(16)))
				n, err := r.ReadAt(p, int64(off))
				want := image[off:min(off+len(p), len(image))]
				if !bytes.Equal(p[:n], want) || n < len(p) && err != io.EOF || n == len(p) && err != nil {
					t.Errorf("%d bytes at %d: %d, %v", len(p), off, n, err)
				}
			}
		})
	}
	wg.Wait()
	if n, err := r.ReadAt(make([]byte, 1), int64(len(image))); n != 0 || err != io.EOF {
		t.Errorf("behind the end: %d, %v", n, err)
	}
	if _, err := r.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("a byte before the beginning was read")
	}

	fresh := &counting{ReaderAt: f}
	r, err = erofs.OpenImage(fresh, erofs.DialectLegacy.Descriptor(l, true))
	if err != nil {
		t.Fatal(err)
	}
	fresh.calls, fresh.bytes = 0, 0
	if _, err := r.ReadAt(make([]byte, 4096), l.Metadata.Offset); err != nil || fresh.calls != 1 || fresh.bytes > 4<<20 {
		t.Errorf("%v: a block took %d reads of %d bytes", err, fresh.calls, fresh.bytes)
	}
	if _, err := r.ReadAt(make([]byte, 4096), l.Metadata.Offset); err != nil || fresh.calls != 1 {
		t.Errorf("%v: the same block once more took a read", err)
	}
}

// TestDamagedChunk: a chunk that is not the index's is not believed.
func TestDamagedChunk(t *testing.T) {
	f, l := mustConvert(t, chunky(t), erofs.Options{Profile: erofs.ProfileZstd})
	chunks, err := erofs.ReadChunkIndex(f, l.Size, *l.Chunks)
	if err != nil {
		t.Fatal(err)
	}
	flipBit(t, f, chunks[2].Offset+chunks[2].Size-1)
	r, err := erofs.OpenImage(f, erofs.DialectSpec.Descriptor(l, true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadAt(make([]byte, 1), chunks[2].ImageOffset); err == nil || !strings.Contains(err.Error(), "chunk 2 ") || !strings.Contains(err.Error(), "digest") {
		t.Errorf("got %v, want an error about the digest of chunk 2", err)
	}
	if _, err := r.ReadAt(make([]byte, 1), chunks[1].ImageOffset); err != nil {
		t.Errorf("the chunk before it: %v", err)
	}
	flipBit(t, f, l.Chunks.Offset+50)
	if _, err := erofs.OpenImage(f, erofs.DialectSpec.Descriptor(l, true)); err == nil || !strings.Contains(err.Error(), "digest") {
		t.Errorf("got %v, want an error about the index's digest", err)
	}
}

func flipBit(t *testing.T, f interface {
	io.ReaderAt
	io.WriterAt
}, off int64) {
	t.Helper()
	var b [1]byte
	if _, err := f.ReadAt(b[:], off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b[:], off); err != nil {
		t.Fatal(err)
	}
}

func TestOpenImageRefuses(t *testing.T) {
	_, l := mustConvert(t, nil, erofs.Options{Profile: erofs.ProfileZstd})
	for name, change := range map[string]func(notes map[string]string){
		"no index":           func(n map[string]string) { delete(n, "org.erofs.chunk-index.range") },
		"another media type": func(n map[string]string) { n["org.erofs.chunk-index.mediaType"] = "application/x" },
		"no digest":          func(n map[string]string) { delete(n, "org.erofs.chunk-index.digest") },
		"bad range":          func(n map[string]string) { n["org.erofs.chunk-index.range"] = "-1:5" },
		"large range":        func(n map[string]string) { n["org.erofs.chunk-index.range"] = "9223372036854775808" },
		"behind the end":     func(n map[string]string) { n["org.erofs.chunk-index.range"] = fmt.Sprintf("1:%d", l.Size+1) },
		"backwards":          func(n map[string]string) { n["org.erofs.chunk-index.range"] = "5:1" },
	} {
		desc := erofs.DialectSpec.Descriptor(l, true)
		change(desc.Annotations)
		_, err := erofs.OpenImage(bytes.NewReader(nil), desc)
		none := name == "no index" || name == "another media type" || name == "no digest"
		if err == nil || errors.Is(err, erofs.ErrNoChunkIndex) != none {
			t.Errorf("%s: %v", name, err)
		}
	}
}
