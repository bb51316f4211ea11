package convert_test

import (
	"context"
	"crypto/ed25519"
	"io"
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
)

// pace measures how many bytes move between two events.
type pace struct {
	since, most atomic.Int64
}

func (p *pace) moved(n int) { p.most.Store(max(p.most.Load(), p.since.Add(int64(n)))) }

// paced is a target whose content is measured. It cannot mount.
type paced struct {
	convert.Target
	*pace
}

func (p paced) Mount(context.Context, ocispec.Descriptor, convert.Source) (bool, error) {
	return false, nil
}

func (p paced) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	return p.measured(p.Target.Fetch(ctx, d))
}

func (p paced) FetchRange(ctx context.Context, d ocispec.Descriptor, off, n int64) (io.ReadCloser, error) {
	return p.measured(p.Target.(*registry.Layout).FetchRange(ctx, d, off, n))
}

func (p paced) measured(rc io.ReadCloser, err error) (io.ReadCloser, error) {
	return pacedBody{rc, p.pace}, err
}

type pacedBody struct {
	io.ReadCloser
	*pace
}

func (b pacedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.moved(n)
	return n, err
}

// A layer that is read back, copied to or from the ledger, or looked into for the
// layers above it is told of all the while: a worker takes silence for death.
func TestNoWorkIsSilent(t *testing.T) {
	const size, most = 32 << 20, 4 << 20
	dir := t.TempDir()
	p := &pace{}
	target := func(name string) convert.Target { // the registry of the other tests has one store for all repositories
		return paced{must(registry.Create("oci:"+filepath.Join(dir, name), plain))(t), p}
	}
	big := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(big)
	raw := tarOf(t, file{name: "big", body: string(big)})
	lower := blob{ocispec.MediaTypeImageLayer, raw, digest.FromBytes(raw)}
	src := target("app:1")
	tag(t, src, manifest(t, src, "linux", "amd64", lower, gz(t, file{name: "l => big"})))

	pub, key := keys(t)
	ledger := &convert.Ledger{
		Open:    func(tag string) (convert.Target, error) { return target("ledger:" + tag), nil },
		Key:     key,
		Trusted: []ed25519.PublicKey{pub},
	}
	for _, how := range []string{"converted", "reused"} {
		p.since.Store(0)
		p.most.Store(0)
		var atEnd atomic.Int64
		_, err := convert.Image(t.Context(), src, target(how+":1"), convert.Options{
			Ledger: ledger, Replace: true, Parallel: 1, TempDir: t.TempDir(),
			Progress: func(e convert.Event) {
				p.since.Store(0)
				if e.Phase == "convert" && e.Done == e.Total && e.Total > size {
					atEnd.Add(1)
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := p.most.Load(); got > most {
			t.Errorf("%s: %d bytes moved in silence, want at most %d", how, got, most)
		}
		if got := atEnd.Load(); how == "converted" && got < size>>21 {
			t.Errorf("told %d times of a layer of %d bytes that was read back", got, size)
		}
	}
}
