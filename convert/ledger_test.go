package convert_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
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

func keys(t *testing.T) (ed25519.PublicKey, ed25519.PrivateKey) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return pub, key
}
