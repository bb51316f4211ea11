package convert_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lithify/lithify/convert"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func osDir(dir string) fs.FS { return os.DirFS(dir) }

func (h *hub) ledger(key ed25519.PrivateKey, trusted ...ed25519.PublicKey) *convert.Ledger {
	return &convert.Ledger{
		Open:    func(tag string) (convert.Target, error) { return h.target("lithify/ledger:" + tag), nil },
		Key:     key,
		Trusted: trusted,
	}
}

// phases counts how layers came about.
func phases(t *testing.T, src convert.Source, dst convert.Target, opts convert.Options) (map[string]int, error) {
	t.Helper()
	var mu sync.Mutex
	n := map[string]int{}
	opts.TempDir = t.TempDir()
	opts.Progress = func(e convert.Event) {
		mu.Lock()
		defer mu.Unlock()
		n[e.Phase]++
	}
	_, err := convert.Image(t.Context(), src, dst, opts)
	return n, err
}

func TestLedgerConvertsOnce(t *testing.T) {
	h := newHub(t)
	ours, our := keys(t)
	theirs, _ := keys(t)
	base := gz(t, file{name: "base", body: "b"})
	tag(t, h.target("one:1"), manifest(t, h.target("one:1"), "linux", "amd64", base, gz(t, file{name: "one", body: "1"})))
	tag(t, h.target("two:1"), manifest(t, h.target("two:1"), "linux", "amd64", base, gz(t, file{name: "two", body: "2"})))

	for i, step := range []struct {
		name              string
		src               string
		ledger            *convert.Ledger
		converted, reused int
	}{
		{"nothing known", "one", h.ledger(our, ours), 2, 0},
		{"the base is known", "two", h.ledger(our, ours), 1, 1},
		{"all known", "two", h.ledger(our, ours), 0, 2},
		{"records of others do not count", "two", h.ledger(nil, theirs), 2, 0},
	} {
		t.Run(step.name, func(t *testing.T) {
			dst := h.target(fmt.Sprintf("%s-erofs:%d", step.src, i))
			n, err := phases(t, h.source(step.src+":1"), dst, convert.Options{Ledger: step.ledger, Replace: true})
			if err != nil {
				t.Fatal(err)
			}
			if n["converted"] != step.converted || n["reused"] != step.reused {
				t.Errorf("converted %d, reused %d; want %d, %d", n["converted"], n["reused"], step.converted, step.reused)
			}
		})
	}
}

// blind cannot read blobs, as a tenant without rights on a repository.
type blind struct{ convert.Source }

func (b blind) Has(ctx context.Context, d ocispec.Descriptor) (bool, error) { return false, nil }

func TestLedgerGivesNothingToThoseWhoCannotReadTheSource(t *testing.T) {
	h := newHub(t)
	pub, key := keys(t)
	tag(t, h.target("app:1"), manifest(t, h.target("app:1"), "linux", "amd64", gz(t, file{name: "a", body: "a"})))
	opts := convert.Options{Ledger: h.ledger(key, pub)}
	if _, err := phases(t, h.source("app:1"), h.target("app:2"), opts); err != nil {
		t.Fatal(err)
	}
	n, err := phases(t, blind{h.source("app:1")}, h.target("thief:1"), opts)
	if !errors.Is(err, convert.ErrNotFound) || n["reused"] > 0 {
		t.Errorf("got %v after %d reused layers, want ErrNotFound", err, n["reused"])
	}
}

// elsewhere is a source of another registry, which may have less than it says.
type elsewhere struct {
	convert.Source
	name    string
	lies    bool
	fetched atomic.Int32 // layers
}

func (e *elsewhere) Name() string { return e.name }

func (e *elsewhere) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if d.MediaType == ocispec.MediaTypeImageLayerGzip {
		if e.lies {
			return nil, convert.ErrNotFound
		}
		e.fetched.Add(1)
	}
	return e.Source.Fetch(ctx, d)
}

// Who runs a registry can have it say that it has a blob. It gets nothing for that,
// and an honest one is asked for the blob once.
func TestLedgerBelievesNoRegistryThatHasNothing(t *testing.T) {
	h := newHub(t)
	pub, key := keys(t)
	tag(t, h.target("app:1"), manifest(t, h.target("app:1"), "linux", "amd64", gz(t, file{name: "a", body: "a"})))
	opts := convert.Options{Ledger: h.ledger(key, pub), Replace: true}
	for i, step := range []struct {
		name                       string
		from                       string
		lies                       bool
		converted, reused, fetched int
	}{
		{"the first", "one.example/app:1", false, 1, 0, 1},
		{"the same registry", "one.example/other:1", false, 0, 1, 0},
		{"a liar", "liar.example/app:1", true, 0, 0, 0},
		{"another registry", "two.example/app:1", false, 0, 1, 1},
		{"which is known now", "two.example/other:1", false, 0, 1, 0},
		{"and the first still is", "one.example/app:1", false, 0, 1, 0},
		{"the ledger's own", h.host + "/app:1", false, 0, 1, 0},
		{"a file", "oci:/var/app:1", false, 0, 1, 1},
		{"a file again", "oci:/var/app:1", false, 0, 1, 1},
	} {
		t.Run(step.name, func(t *testing.T) {
			src := &elsewhere{Source: h.source("app:1"), name: step.from, lies: step.lies}
			n, err := phases(t, src, h.target(fmt.Sprintf("made:%d", i)), opts)
			if step.lies != errors.Is(err, convert.ErrNotFound) || !step.lies && err != nil {
				t.Fatal(err)
			}
			got := [3]int{n["converted"], n["reused"], int(src.fetched.Load())}
			if want := [3]int{step.converted, step.reused, step.fetched}; got != want {
				t.Errorf("converted, reused, fetched: got %v, want %v", got, want)
			}
		})
	}
}

func keys(t *testing.T) (ed25519.PublicKey, ed25519.PrivateKey) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return pub, key
}
