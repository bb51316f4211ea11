package restore

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/restore/archive"
	"github.com/lithify/lithify/restore/image"
)

// localTest is a machine that restores from a registry which is away, or refuses, once it is told to.
type localTest struct {
	t    *testing.T
	root string
	host string
	desc ocispec.Descriptor
	key  ed25519.PublicKey // that has signed it

	status atomic.Int32 // of each answer; 0: as asked, -1: there is none
	stop   func()       // the registry
	allow  func(context.Context, *image.Image) error

	patience time.Duration // with it
}

func newLocalTest(t *testing.T) *localTest {
	t.Helper()
	lt := &localTest{t: t, root: t.TempDir()}
	all := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)), ggcr.WithReferrersSupport(true))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if lt.status.Load() < 0 {
			<-r.Context().Done()
			return
		}
		if status := lt.status.Load(); status != 0 {
			w.WriteHeader(int(status))
			return
		}
		all.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	lt.stop, lt.host = srv.Close, strings.TrimPrefix(srv.URL, "http://")
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	lt.key = public
	content := []byte("memory of a process")
	layer := image.Blob{
		Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerZstd, Digest: digest.FromBytes(content), Size: int64(len(content))},
		DiffID:     digest.FromBytes(content),
		Open:       func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
	}
	cp := &archive.Checkpoint{Format: archive.Containerd, Name: "web", Checkpointed: time.Now()}
	for _, repository := range []string{"web", "db"} {
		dst, err := registry.Create(lt.host+"/"+repository+":saved", registry.Options{Insecure: true})
		if err != nil {
			t.Fatal(err)
		}
		if lt.desc, err = image.Push(t.Context(), dst, []image.Blob{layer}, cp, key); err != nil {
			t.Fatal(err)
		}
	}
	return lt
}

// restores does of a restore what has to do with the registry.
func (lt *localTest) restores(tenant, ref string) (*run, error) {
	lt.t.Helper()
	src, err := registry.Open(lt.host+"/"+ref, registry.Options{Insecure: true})
	if err != nil {
		lt.t.Fatal(err)
	}
	r := &run{src: src, opts: Options{Root: lt.root, LocalFor: tenant, Allow: lt.allow, patience: lt.patience}.withDefaults()}
	if err := r.openImage(lt.t.Context()); err != nil {
		return r, err
	}
	if err := r.readable(lt.t.Context()); err != nil {
		return r, err
	}
	dir, release, err := r.cache().get(lt.t.Context(), r.unpacked(), func(dir string) error {
		if r.local != nil {
			return r.unpack(lt.t.Context(), dir)
		}
		return os.WriteFile(filepath.Join(dir, "pages"), []byte("memory"), 0o600)
	})
	if err != nil {
		return r, err
	}
	defer release()
	if r.local != nil {
		return r, r.local.check(lt.t.Context(), dir)
	}
	return r, r.keep(lt.t.Context(), dir)
}

// signedBy wants a checkpoint that one of keys has signed.
func signedBy(keys ...ed25519.PublicKey) func(context.Context, *image.Image) error {
	return func(ctx context.Context, img *image.Image) error { return img.SignedBy(ctx, keys) }
}

// kept is the one file of documents there is, and the directory of what was unpacked.
func (lt *localTest) kept() (file, dir string) {
	lt.t.Helper()
	all, err := filepath.Glob(filepath.Join(lt.root, "checkpoints/*.kept/*.json"))
	if err != nil || len(all) != 1 {
		lt.t.Fatalf("kept: %v, %v, want one", all, err)
	}
	return all[0], strings.TrimSuffix(filepath.Dir(all[0]), ".kept")
}

// edit changes what is kept.
func (lt *localTest) edit(change func(*documents)) {
	lt.t.Helper()
	file, _ := lt.kept()
	raw, err := os.ReadFile(file)
	if err != nil {
		lt.t.Fatal(err)
	}
	var docs documents
	if err := json.Unmarshal(raw, &docs); err != nil {
		lt.t.Fatal(err)
	}
	change(&docs)
	if err := docs.write(file); err != nil {
		lt.t.Fatal(err)
	}
}

// A registry that does not answer leaves a tenant what it had restored; one that refuses has
// answered.
func TestLocalCopy(t *testing.T) {
	for name, tc := range map[string]struct {
		status int // 0: nobody listens
		local  bool
	}{
		"gone":         {0, true},
		"silent":       {-1, true},
		"broken":       {http.StatusInternalServerError, true},
		"overloaded":   {http.StatusServiceUnavailable, true},
		"who are you":  {http.StatusUnauthorized, false},
		"you may not":  {http.StatusForbidden, false},
		"not here":     {http.StatusNotFound, false},
		"too often":    {http.StatusTooManyRequests, false},
		"cannot do it": {http.StatusNotImplemented, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lt := newLocalTest(t)
			lt.allow = signedBy(lt.key)
			if _, err := lt.restores("shop", "web:saved"); err != nil {
				t.Fatal(err)
			}
			switch lt.status.Store(int32(tc.status)); tc.status {
			case 0:
				lt.stop()
			case -1:
				lt.patience = 100 * time.Millisecond
			}
			r, err := lt.restores("shop", "web@"+lt.desc.Digest.String())
			if got := err == nil; got != tc.local {
				t.Fatalf("got %v, want it restored: %v", err, tc.local)
			}
			if tc.local && (r.local == nil || r.img.Descriptor.Digest != lt.desc.Digest || !strings.HasPrefix(r.img.Name, lt.host+"/web@")) {
				t.Errorf("restored %+v, local %v", r.img, r.local)
			}
		})
	}
}

// Of two answers the one that comes last counts, too: a registry that goes away between them.
func TestLocalCopyOfLayers(t *testing.T) {
	lt := newLocalTest(t)
	if _, err := lt.restores("shop", "web:saved"); err != nil {
		t.Fatal(err)
	}
	lt.allow = func(context.Context, *image.Image) error { lt.stop(); return nil }
	if r, err := lt.restores("shop", "web@"+lt.desc.Digest.String()); err != nil || r.local == nil {
		t.Errorf("got %v, want the copy restored", err)
	}
}

// A registry that goes silent is not waited for between the two answers either, nor by who would
// keep a copy, which is no fault of the restore's.
func TestLocalCopyOfLayersSilent(t *testing.T) {
	lt := newLocalTest(t)
	signed := signedBy(lt.key)
	lt.allow = signed
	if _, err := lt.restores("shop", "web:saved"); err != nil {
		t.Fatal(err)
	}
	lt.patience = 500 * time.Millisecond
	lt.allow = func(ctx context.Context, img *image.Image) error {
		err := signed(ctx, img)
		lt.status.Store(-1)
		return err
	}
	r, err := lt.restores("shop", "web@"+lt.desc.Digest.String())
	if err != nil || r.local == nil || !strings.HasSuffix(r.local.away.Error(), "was asked for 500ms: it does not answer: unavailable") {
		t.Errorf("got %v, want the copy restored: %+v", err, r.local)
	}

	lt.status.Store(0)
	calls := 0
	lt.allow = func(ctx context.Context, img *image.Image) error {
		if calls++; calls == 2 {
			lt.status.Store(-1)
		}
		return signed(ctx, img)
	}
	if r, err := lt.restores("db", "web:saved"); err != nil || calls != 2 || r.local != nil {
		t.Errorf("while its copy was to be kept: %v after %d looks, %+v", err, calls, r.local)
	}
}

// A copy is for who had it, of where they had it from, and as long as it is what it was.
func TestLocalCopyRefused(t *testing.T) {
	other, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// A copy is spoilt, or asked for by another tenant or reference.
	type test struct {
		tenant, ref string
		spoil       func(t *testing.T, lt *localTest)
		want        string
	}
	ask := func(tenant, ref, want string) test { return test{tenant, ref, func(*testing.T, *localTest) {}, want} }
	edit := func(change func(*documents), want string) test {
		return test{"shop", "web@", func(_ *testing.T, lt *localTest) { lt.edit(change) }, want}
	}
	spoil := func(spoil func(lt *localTest, file, dir string) error, want string) test {
		return test{"shop", "web@", func(t *testing.T, lt *localTest) {
			file, dir := lt.kept()
			if err := spoil(lt, file, dir); err != nil {
				t.Fatal(err)
			}
		}, want}
	}
	for name, tc := range map[string]test{
		"nobody may":         ask("", "web@", "refused"),
		"another tenant":     ask("web", "web@", "no job of tenant web"),
		"another repository": ask("shop", "db@", "no job of tenant shop"),
		"another digest":     ask("shop", "web@"+digest.FromString("x").String(), "no job of tenant shop"),
		"a tag":              ask("shop", "web:saved", "name a digest"),

		"signature left out": edit(func(d *documents) { d.Referrers = nil }, "no signed provenance"),
		"signature changed": edit(func(d *documents) {
			for dgst, raw := range d.Content {
				if dgst != d.Root.Digest {
					raw[len(raw)/2] ^= 1
				}
			}
		}, "none of these keys"),
		"manifest changed": edit(func(d *documents) { d.Content[d.Root.Digest][5] ^= 1 }, "another digest"),
		"another manifest": edit(func(d *documents) {
			d.Root = convert.Describe(d.Root.MediaType, []byte("{}"))
			d.Content[d.Root.Digest] = []byte("{}")
		}, "is of sha256:"),

		"another key":  spoil(func(lt *localTest, _, _ string) error { lt.allow = signedBy(other); return nil }, "none of these keys"),
		"half written": spoil(func(_ *localTest, file, _ string) error { return os.Truncate(file, 100) }, "unexpected end"),
		"beside another": spoil(func(_ *localTest, file, dir string) error {
			return os.Rename(filepath.Dir(file), filepath.Join(filepath.Dir(dir), "other.kept"))
		}, "lies beside another"),
		"file changed": spoil(func(_ *localTest, _, dir string) error {
			return os.WriteFile(filepath.Join(dir, "pages"), []byte("Memory"), 0o600)
		}, "were changed"),
		"file added": spoil(func(_ *localTest, _, dir string) error { return os.WriteFile(filepath.Join(dir, "more"), nil, 0o600) }, "were changed"),
		"files gone": spoil(func(_ *localTest, _, dir string) error { return os.RemoveAll(dir) }, "it was removed"),
		"evicted": spoil(func(lt *localTest, _, dir string) error {
			return cache{filepath.Dir(dir)}.trim(0)
		}, "no job of tenant shop"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lt := newLocalTest(t)
			lt.allow = signedBy(lt.key)
			if _, err := lt.restores("shop", "web:saved"); err != nil {
				t.Fatal(err)
			}
			tc.spoil(t, lt)
			lt.stop()
			ref := tc.ref
			if strings.HasSuffix(ref, "@") {
				ref += lt.desc.Digest.String()
			}
			_, err := lt.restores(tc.tenant, ref)
			if !Away(err) || errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want that the registry is away, and %q", err, tc.want)
			}
		})
	}
}
