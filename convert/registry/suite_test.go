package registry_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
)

// The promises of a Target hold for each kind of place. A place gives references
// to the tag in an empty repository or layout of its own.
func TestTargets(t *testing.T) {
	places := []struct {
		name string
		make func(t *testing.T) (prefix string)
	}{
		{"ggcr", func(t *testing.T) string { return memoryRegistry(t, ggcr.WithReferrersSupport(true)) + "/team/app" }},
		{"ggcr without referrers", func(t *testing.T) string { return memoryRegistry(t) + "/team/app" }},
		{"distribution", func(t *testing.T) string { return distribution(t) + "/team/app" }},
		{"layout", func(t *testing.T) string { return "oci:" + filepath.Join(t.TempDir(), "a layout") }},
	}
	promises := []struct {
		name string
		test func(t *testing.T, create func(tag string) convert.Target)
	}{
		{"blobs", testBlobs},
		{"a blob that is not what was said", testWrongBlob},
		{"a blob that cannot be read", testUnreadableBlob},
		{"a blob while it is made", testPushStream},
		{"ranges", testRanges},
		{"manifests", testManifests},
		{"tags", testTags},
		{"referrers", testReferrers},
		{"digests that are paths", testEvilDigests},
	}
	for _, place := range places {
		t.Run(place.name, func(t *testing.T) {
			for _, p := range promises {
				t.Run(p.name, func(t *testing.T) {
					prefix := place.make(t)
					p.test(t, func(tag string) convert.Target { return mustCreate(t, prefix+":"+tag) })
				})
			}
		})
	}
}

func testBlobs(t *testing.T, create func(string) convert.Target) {
	dst := create("v1")
	for _, content := range []string{"", "layer", strings.Repeat("rock ", 1<<18)} {
		desc := describe("application/octet-stream", content)
		if has, err := dst.Has(t.Context(), desc); has || err != nil {
			t.Fatalf("before Push: Has = %v, %v", has, err)
		}
		if _, err := dst.Fetch(t.Context(), desc); !errors.Is(err, convert.ErrNotFound) {
			t.Errorf("before Push: Fetch = %v, want ErrNotFound", err)
		}
		push(t, dst, desc, content)
		if has, err := dst.Has(t.Context(), desc); !has || err != nil {
			t.Fatalf("after Push: Has = %v, %v", has, err)
		}
		if got := fetch(t, dst, desc); got != content {
			t.Errorf("Fetch gave %d bytes, want %d", len(got), len(content))
		}
		err := dst.Push(t.Context(), desc, func() (io.ReadCloser, error) {
			t.Error("a blob that is there was opened again")
			return nil, errors.New("no")
		})
		if err != nil {
			t.Errorf("second Push: %v", err)
		}
	}
}

func testWrongBlob(t *testing.T, create func(string) convert.Target) {
	dst := create("v1")
	desc := describe("application/octet-stream", "what was promised")
	for _, content := range []string{"what has changed.", "short", "something else, which is longer too"} {
		if err := dst.Push(t.Context(), desc, opener(content)); err == nil {
			t.Errorf("Push of %q did not fail", content)
		}
		if has, _ := dst.Has(t.Context(), desc); has {
			t.Fatalf("%q was stored", content)
		}
	}
}

func testUnreadableBlob(t *testing.T, create func(string) convert.Target) {
	dst := create("v1")
	desc := describe("application/octet-stream", strings.Repeat("x", 1<<20))
	broken := errors.New("the disk is gone")
	for name, open := range map[string]func() (io.ReadCloser, error){
		"open": func() (io.ReadCloser, error) { return nil, broken },
		"read": func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader("xxx"), iotest.ErrReader(broken))), nil
		},
	} {
		if err := dst.Push(t.Context(), desc, open); !errors.Is(err, broken) {
			t.Errorf("%s: Push = %v, want the content's own error", name, err)
		}
	}
	if has, _ := dst.Has(t.Context(), desc); has {
		t.Error("half a blob was stored")
	}
}

func testRanges(t *testing.T, create func(string) convert.Target) {
	dst := create("v1")
	content := strings.Repeat("0123456789", 1000)
	desc := describe("application/octet-stream", content)
	push(t, dst, desc, content)
	src := dst.(interface {
		FetchRange(context.Context, ocispec.Descriptor, int64, int64) (io.ReadCloser, error)
	})
	for _, c := range []struct {
		off, n int64
		ok     bool
	}{
		{0, 10, true}, {3, 4, true}, {9990, 10, true}, {0, 10000, true}, {10000, 0, true}, {5, 0, true},
		{9991, 10, false}, {-1, 2, false}, {0, -1, false}, {10001, 0, false}, {2, 1<<63 - 1, false},
	} {
		rc, err := src.FetchRange(t.Context(), desc, c.off, c.n)
		if !c.ok {
			if err == nil {
				t.Errorf("bytes %d+%d were given", c.off, c.n)
			}
			continue
		}
		if err != nil {
			t.Errorf("bytes %d+%d: %v", c.off, c.n, err)
			continue
		}
		if got, want := read(t, rc), content[c.off:c.off+c.n]; got != want {
			t.Errorf("bytes %d+%d: got %d bytes, want %d", c.off, c.n, len(got), len(want))
		}
	}
}

func testManifests(t *testing.T, create func(string) convert.Target) {
	dst := create("v1")
	// Odd spacing has to survive: the digest is that of the bytes.
	desc, raw := image(t, dst, "config", nil)
	spaced := append([]byte(" \n"), raw...)
	desc = describe(desc.MediaType, string(spaced))
	if err := dst.PutManifest(t.Context(), desc, spaced); err != nil {
		t.Fatal(err)
	}
	if got := fetch(t, dst, desc); got != string(spaced) {
		t.Errorf("got manifest %q, want %q", got, spaced)
	}
	if has, err := dst.Has(t.Context(), desc); !has || err != nil {
		t.Errorf("Has = %v, %v", has, err)
	}
	if err := dst.PutManifest(t.Context(), desc, raw); err == nil {
		t.Error("other bytes were put under the digest")
	}
	absent := describe(desc.MediaType, "absent")
	if has, err := dst.Has(t.Context(), absent); has || err != nil {
		t.Errorf("absent manifest: Has = %v, %v", has, err)
	}
	if _, err := dst.Fetch(t.Context(), absent); !errors.Is(err, convert.ErrNotFound) {
		t.Errorf("absent manifest: Fetch = %v, want ErrNotFound", err)
	}
}

func testTags(t *testing.T, create func(string) convert.Target) {
	dst := create("v1")
	if _, err := dst.Head(t.Context()); !errors.Is(err, convert.ErrNotFound) {
		t.Fatalf("Head of nothing = %v, want ErrNotFound", err)
	}
	if _, err := dst.Root(t.Context()); !errors.Is(err, convert.ErrNotFound) {
		t.Fatalf("Root of nothing = %v, want ErrNotFound", err)
	}
	one, rawOne := image(t, dst, "one", nil)
	two, rawTwo := image(t, dst, "two", nil)
	tag := func(to convert.Target, desc ocispec.Descriptor, raw []byte, was digest.Digest, want error) {
		t.Helper()
		if err := to.Tag(t.Context(), desc, raw, was); !errors.Is(err, want) {
			t.Fatalf("Tag = %v, want %v", err, want)
		}
	}
	tag(dst, one, rawOne, two.Digest, convert.ErrTagMoved)
	tag(dst, one, rawOne, "", nil)
	wantHead(t, dst, one)
	tag(dst, one, rawOne, "", nil) // done already
	tag(dst, two, rawTwo, "", convert.ErrTagMoved)
	tag(dst, two, rawTwo, one.Digest, nil)
	wantHead(t, dst, two)

	other, err := dst.WithTag("v2")
	if err != nil {
		t.Fatal(err)
	}
	tag(other, one, rawOne, "", nil)
	wantHead(t, other, one)
	wantHead(t, dst, two)
	if _, err := dst.WithTag(""); err == nil {
		t.Error("an empty tag was accepted")
	}

	// Root does not follow a tag that moves.
	src := create("v2")
	if got, err := src.Root(t.Context()); err != nil || got.Digest != one.Digest {
		t.Fatalf("Root = %v, %v, want %v", got, err, one)
	}
	tag(other, two, rawTwo, one.Digest, nil)
	if got, err := src.Root(t.Context()); err != nil || got.Digest != one.Digest {
		t.Errorf("Root after a move = %v, %v, want %v", got, err, one)
	}
	if got := fetch(t, src, one); got != string(rawOne) {
		t.Errorf("Fetch of the root = %q", got)
	}
}

func wantHead(t *testing.T, dst convert.Target, want ocispec.Descriptor) {
	t.Helper()
	got, err := dst.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Head (-want +got):\n%s", diff)
	}
}

func testReferrers(t *testing.T, create func(string) convert.Target) {
	dst := create("v1")
	subject, raw := image(t, dst, "subject", nil)
	if err := dst.Tag(t.Context(), subject, raw, ""); err != nil {
		t.Fatal(err)
	}
	if got, err := dst.Referrers(t.Context(), subject.Digest); len(got) != 0 || err != nil {
		t.Fatalf("Referrers = %v, %v, want none", got, err)
	}
	// A layout finds a referrer by its entry, a registry with the API by its
	// subject, others by the fallback tag.
	sbom, rawSBOM := image(t, dst, "sbom", &subject)
	tagAs(t, dst, "an-sbom", sbom, rawSBOM)
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{sbom}}
	rawIndex, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	hex := subject.Digest.Encoded()
	tagAs(t, dst, "sha256-"+hex, describe(index.MediaType, string(rawIndex)), rawIndex)
	sig, rawSig := image(t, dst, "signature", nil)
	tagAs(t, dst, "sha256-"+hex+".sig", sig, rawSig)
	tagAs(t, dst, "sha256-"+hex+".att", sig, rawSig) // twice is once
	other, rawOther := image(t, dst, "another image's", nil)
	tagAs(t, dst, "sha256-"+other.Digest.Encoded()+".sig", other, rawOther)

	got, err := dst.Referrers(t.Context(), subject.Digest)
	if err != nil {
		t.Fatal(err)
	}
	var digests []digest.Digest
	for _, d := range got {
		digests = append(digests, d.Digest)
	}
	if diff := cmp.Diff([]digest.Digest{sbom.Digest, sig.Digest}, digests); diff != "" {
		t.Errorf("Referrers (-want +got):\n%s", diff)
	}
}

func tagAs(t *testing.T, dst convert.Target, tag string, desc ocispec.Descriptor, raw []byte) {
	t.Helper()
	to, err := dst.WithTag(tag)
	if err != nil {
		t.Fatal(err)
	}
	if err := to.PutManifest(t.Context(), desc, raw); err != nil {
		t.Fatal(err)
	}
	if err := to.Tag(t.Context(), desc, raw, ""); err != nil {
		t.Fatal(err)
	}
}

func testEvilDigests(t *testing.T, create func(string) convert.Target) {
	dst := create("v1")
	for _, d := range []digest.Digest{"", "sha256:", "sha256:../../index.json", "../../etc:passwd", "sha256:" + digest.Digest(strings.Repeat("A", 64)), "sha256:abc?x=y"} {
		desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: 1}
		if _, err := dst.Fetch(t.Context(), desc); err == nil {
			t.Errorf("Fetch of %q", d)
		}
		if _, err := dst.Has(t.Context(), desc); err == nil {
			t.Errorf("Has of %q", d)
		}
		if err := dst.Push(t.Context(), desc, opener("x")); err == nil {
			t.Errorf("Push of %q", d)
		}
		if err := dst.PutManifest(t.Context(), desc, []byte("x")); err == nil {
			t.Errorf("PutManifest of %q", d)
		}
		if _, err := dst.Referrers(t.Context(), d); err == nil {
			t.Errorf("Referrers of %q", d)
		}
	}
}

// image puts a small image whose only content is its config.
func image(t *testing.T, dst convert.Target, content string, subject *ocispec.Descriptor) (ocispec.Descriptor, []byte) {
	t.Helper()
	config := describe(ocispec.MediaTypeImageConfig, `{"comment":"`+content+`"}`)
	push(t, dst, config, `{"comment":"`+content+`"}`)
	raw, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: config, Layers: []ocispec.Descriptor{}, Subject: subject,
	})
	if err != nil {
		t.Fatal(err)
	}
	desc := describe(ocispec.MediaTypeImageManifest, string(raw))
	if err := dst.PutManifest(t.Context(), desc, raw); err != nil {
		t.Fatal(err)
	}
	return desc, raw
}

func describe(mediaType, content string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(content), Size: int64(len(content))}
}

func opener(content string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }
}

func push(t *testing.T, dst convert.Target, desc ocispec.Descriptor, content string) {
	t.Helper()
	if err := dst.Push(t.Context(), desc, opener(content)); err != nil {
		t.Fatal(err)
	}
}

func fetch(t *testing.T, src convert.Source, desc ocispec.Descriptor) string {
	t.Helper()
	rc, err := src.Fetch(t.Context(), desc)
	if err != nil {
		t.Fatal(err)
	}
	return read(t, rc)
}

func read(t *testing.T, rc io.ReadCloser) string {
	t.Helper()
	b, err := io.ReadAll(rc)
	if err := errors.Join(err, rc.Close()); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// options reach registries without this machine's docker config and without
// waiting.
func options() registry.Options {
	return registry.Options{Keychain: authn.NewMultiKeychain()}.WithoutWaiting(func(time.Duration) {})
}

func mustCreate(t *testing.T, ref string) convert.Target {
	t.Helper()
	dst, err := registry.Create(ref, options())
	if err != nil {
		t.Fatal(err)
	}
	return dst
}

func mustOpen(t *testing.T, ref string) convert.Source {
	t.Helper()
	src, err := registry.Open(ref, options())
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func memoryRegistry(t *testing.T, opts ...ggcr.Option) string {
	t.Helper()
	s := httptest.NewServer(ggcr.New(append(opts, ggcr.Logger(log.New(io.Discard, "", 0)))...))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// distribution starts the registry everybody runs, on a port that it chooses.
func distribution(t *testing.T) string {
	t.Helper()
	// test/run.sh has the tools in PATH; LITHIFY_TEST_BIN names another directory.
	bin, err := exec.LookPath(filepath.Join(os.Getenv("LITHIFY_TEST_BIN"), "registry"))
	if err != nil {
		t.Skipf("distribution's registry (make tools builds it): %v", err)
	}
	config := filepath.Join(t.TempDir(), "config.yml")
	text := "version: 0.1\nlog: {level: info, formatter: json}\nstorage:\n  filesystem: {rootdirectory: " + t.TempDir() + "}\n  delete: {enabled: true}\nhttp: {addr: \"127.0.0.1:0\"}\n"
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "serve", config)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	said, speaks, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = speaks, speaks
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	speaks.Close()
	address := make(chan string, 1)
	done := make(chan struct{})
	go func() { // ends with the process
		defer close(done)
		findAddress(said, address)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		<-done
		said.Close()
	})
	select {
	case a := <-address:
		return a
	case <-done:
		t.Fatal("distribution's registry did not start")
	case <-time.After(30 * time.Second):
		t.Fatal("distribution's registry said no address within 30 s")
	}
	return ""
}

// findAddress reads the log to its end, so that the process is never stopped by
// a full pipe.
func findAddress(log io.Reader, address chan<- string) {
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if _, after, ok := strings.Cut(lines.Text(), "listening on "); ok {
			found, _, _ := strings.Cut(after, `"`)
			address <- found
		}
	}
}
