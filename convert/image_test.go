package convert_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log"
	"maps"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/google/go-cmp/cmp"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/klauspost/compress/zstd"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// hub is a registry of the test's own.
type hub struct {
	t    *testing.T
	host string
}

func newHub(t *testing.T) *hub {
	t.Helper()
	s := httptest.NewServer(ggcr.New(ggcr.WithReferrersSupport(true), ggcr.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(s.Close)
	return &hub{t, strings.TrimPrefix(s.URL, "http://")}
}

var plain = registry.Options{Insecure: true}

func (h *hub) source(ref string) convert.Source {
	h.t.Helper()
	return must(registry.Open(h.host+"/"+ref, plain))(h.t)
}

func (h *hub) target(ref string) convert.Target {
	h.t.Helper()
	return must(registry.Create(h.host+"/"+ref, plain))(h.t)
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// file is an entry of a layer; the name decides the kind: "d/" is a directory,
// "l -> t" a symbolic link, "l => t" a hard link.
type file struct {
	name string
	mode int64
	uid  int
	body string
}

func tarOf(t *testing.T, files ...file) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: f.mode, Uid: f.uid, Gid: f.uid, Size: int64(len(f.body)), ModTime: time.Unix(1700000000, 0), Typeflag: tar.TypeReg}
		if f.mode == 0 {
			h.Mode = 0o644
		}
		if name, to, ok := strings.Cut(f.name, " -> "); ok {
			h.Name, h.Linkname, h.Typeflag = name, to, tar.TypeSymlink
		}
		if name, to, ok := strings.Cut(f.name, " => "); ok {
			h.Name, h.Linkname, h.Typeflag = name, to, tar.TypeLink
		}
		if strings.HasSuffix(f.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func gzipped(t *testing.T, b []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// blob is a layer as it is pushed.
type blob struct {
	mediaType string
	bytes     []byte
	diffID    digest.Digest
}

func gz(t *testing.T, files ...file) blob {
	b := tarOf(t, files...)
	return blob{ocispec.MediaTypeImageLayerGzip, gzipped(t, b), digest.FromBytes(b)}
}

func push(t *testing.T, dst convert.Target, desc ocispec.Descriptor, b []byte) {
	t.Helper()
	if err := dst.Push(t.Context(), desc, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }); err != nil {
		t.Fatal(err)
	}
}

func descOf(mediaType string, b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
}

func asJSON(t *testing.T, v any) []byte {
	t.Helper()
	return must(json.Marshal(v))(t)
}

// manifest pushes layers, a config and a manifest, and does not tag it.
func manifest(t *testing.T, dst convert.Target, os, arch string, layers ...blob) ocispec.Descriptor {
	t.Helper()
	config := ocispec.Image{Platform: ocispec.Platform{OS: os, Architecture: arch}, RootFS: ocispec.RootFS{Type: "layers"}}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, l := range layers {
		d := descOf(l.mediaType, l.bytes)
		push(t, dst, d, l.bytes)
		m.Layers = append(m.Layers, d)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.diffID)
	}
	raw := asJSON(t, config)
	m.Config = descOf(ocispec.MediaTypeImageConfig, raw)
	push(t, dst, m.Config, raw)
	return putManifest(t, dst, m.MediaType, asJSON(t, m))
}

func putManifest(t *testing.T, dst convert.Target, mediaType string, raw []byte) ocispec.Descriptor {
	t.Helper()
	d := descOf(mediaType, raw)
	if err := dst.PutManifest(t.Context(), d, raw); err != nil {
		t.Fatal(err)
	}
	return d
}

func tag(t *testing.T, dst convert.Target, d ocispec.Descriptor) {
	t.Helper()
	was, err := dst.Head(t.Context())
	if err != nil && !errors.Is(err, convert.ErrNotFound) {
		t.Fatal(err)
	}
	if err := dst.Tag(t.Context(), d, read(t, dst, d), was.Digest); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, src convert.Source, d ocispec.Descriptor) []byte {
	t.Helper()
	rc := must(src.Fetch(t.Context(), d))(t)
	defer rc.Close()
	return must(io.ReadAll(rc))(t)
}

func parse[T any](t *testing.T, raw []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// open reads a converted layer back.
func open(t *testing.T, src convert.Source, d ocispec.Descriptor) fs.FS {
	t.Helper()
	image := read(t, src, d)
	if strings.HasSuffix(d.MediaType, "+zstd") {
		z := must(zstd.NewReader(nil))(t)
		defer z.Close()
		image = must(z.DecodeAll(image, nil))(t)
	}
	return must(erofs.Open(bytes.NewReader(image)))(t)
}

var amd64 = convert.Options{Platforms: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}}}

func convertTo(t *testing.T, src convert.Source, dst convert.Target, opts convert.Options) *convert.Result {
	t.Helper()
	opts.TempDir = t.TempDir()
	r, err := convert.Image(t.Context(), src, dst, opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSingleManifestBecomesAnIndex(t *testing.T) {
	h := newHub(t)
	base := gz(t, file{name: "./", mode: 0o755}, file{name: "etc/", mode: 0o755}, file{name: "etc/hosts", body: "here"})
	top := gz(t, file{name: "etc/", mode: 0o755}, file{name: "etc/.wh.hosts"}, file{name: "etc/motd", body: "hello"})
	from := manifest(t, h.target("app:1"), "linux", "amd64", base, top)
	tag(t, h.target("app:1"), from)

	r := convertTo(t, h.source("app:1"), h.target("app:1-erofs"), convert.Options{})

	index := parse[ocispec.Index](t, read(t, h.source("app:1-erofs"), r.Descriptor))
	if got, want := len(index.Manifests), 2; got != want {
		t.Fatalf("%d entries, want %d", got, want)
	}
	if diff := cmp.Diff(index.Manifests[0].Digest, from.Digest); diff != "" {
		t.Error("the tar manifest is not first, byte for byte:", diff)
	}
	entry := index.Manifests[1]
	if got := entry.Platform.OSFeatures; !slices.Equal(got, []string{"erofs"}) {
		t.Errorf("os.features of the variant's entry: %q", got)
	}
	m := parse[ocispec.Manifest](t, read(t, h.source("app:1-erofs"), entry))
	config := parse[ocispec.Image](t, read(t, h.source("app:1-erofs"), m.Config))
	if got := config.OSFeatures; !slices.Equal(got, []string{"erofs"}) {
		t.Errorf("os.features of the config: %q", got)
	}
	for i, l := range m.Layers {
		if l.MediaType != images.MediaTypeErofsLayer {
			t.Errorf("layer %d: media type %s", i, l.MediaType)
		}
		if config.RootFS.DiffIDs[i] != l.Digest {
			t.Errorf("layer %d: diff ID %s, blob %s", i, config.RootFS.DiffIDs[i], l.Digest)
		}
	}
	upper := open(t, h.source("app:1-erofs"), m.Layers[1])
	if got := string(must(fs.ReadFile(upper, "etc/motd"))(t)); got != "hello" {
		t.Errorf("etc/motd: %q", got)
	}
	if info := must(fs.Stat(upper, "etc/hosts"))(t); !erofs.IsWhiteout(info) {
		t.Errorf("etc/hosts: %v, want a whiteout", info.Mode())
	}
}

// odd is an index with everything that has to pass through.
func odd(t *testing.T, dst convert.Target) ocispec.Index {
	t.Helper()
	linux := manifest(t, dst, "linux", "amd64", gz(t, file{name: "a", body: "a"}))
	linux.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	arm := manifest(t, dst, "linux", "arm64", gz(t, file{name: "a", body: "arm"}))
	arm.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm64"}
	windows := manifest(t, dst, "windows", "amd64", gz(t, file{name: "Files/", mode: 0o755}))
	windows.Platform = &ocispec.Platform{OS: "windows", Architecture: "amd64", OSVersion: "10.0.20348.1"}
	statement := []byte(`{"_type":"https://in-toto.io/Statement/v0.1"}`)
	attestation := manifest(t, dst, "unknown", "unknown", blob{"application/vnd.in-toto+json", statement, digest.FromBytes(statement)})
	attestation.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	attestation.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": linux.Digest.String()}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{linux, arm, windows, attestation}}
	tag(t, dst, putManifest(t, dst, index.MediaType, asJSON(t, index)))
	return index
}

func TestOriginalsPassThroughUntouched(t *testing.T) {
	h, other := newHub(t), newHub(t)
	from := odd(t, h.target("app:1"))
	for _, tc := range []struct {
		name     string
		opts     convert.Options
		variants int
	}{
		{"one platform", amd64, 1},
		{"all", convert.Options{AllPlatforms: true}, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := convertTo(t, h.source("app:1"), other.target("copy:1"), tc.opts)
			index := parse[ocispec.Index](t, read(t, other.source("copy:1"), r.Descriptor))
			if diff := cmp.Diff(index.Manifests[:4], from.Manifests); diff != "" {
				t.Error("originals differ:", diff)
			}
			if got := len(index.Manifests) - 4; got != tc.variants {
				t.Errorf("%d variants, want %d", got, tc.variants)
			}
			for _, d := range from.Manifests {
				m := parse[ocispec.Manifest](t, read(t, other.source("copy:1"), d))
				for _, l := range m.Layers {
					if got := digest.FromBytes(read(t, other.source("copy:1"), l)); got != l.Digest {
						t.Errorf("%s: copied as %s", l.Digest, got)
					}
				}
			}
		})
	}
}

func TestConvertingAgainReplacesTheVariant(t *testing.T) {
	h := newHub(t)
	odd(t, h.target("app:1"))
	inPlace := amd64
	inPlace.InPlace = true
	first := convertTo(t, h.source("app:1"), h.target("app:1"), inPlace)
	if first.Kept == "" || must(h.target("app:"+first.KeptAs).Head(t.Context()))(t).Digest != first.SourceDigest {
		t.Errorf("the overwritten %s is not kept: %q as %q", first.SourceDigest, first.Kept, first.KeptAs)
	}

	again := convertTo(t, h.source("app:1"), h.target("app:1"), inPlace)
	if !again.Unchanged || again.Descriptor.Digest != first.Descriptor.Digest {
		t.Errorf("second run: %s, unchanged %v; first run: %s", again.Descriptor.Digest, again.Unchanged, first.Descriptor.Digest)
	}
	inPlace.Profile, inPlace.Dialect = erofs.ProfileZstd, erofs.DialectSpec
	zstd := convertTo(t, h.source("app:1"), h.target("app:1"), inPlace)
	index := parse[ocispec.Index](t, read(t, h.source("app:1"), zstd.Descriptor))
	if got := len(index.Manifests); got != 5 {
		t.Fatalf("%d entries after a second conversion, want 5", got)
	}
	m := parse[ocispec.Manifest](t, read(t, h.source("app:1"), index.Manifests[4]))
	if got, want := m.Layers[0].MediaType, "application/vnd.erofs+zstd"; got != want {
		t.Errorf("layer type %s, want %s", got, want)
	}
	arm := inPlace
	arm.Platforms = []ocispec.Platform{{OS: "linux", Architecture: "arm64"}}
	both := convertTo(t, h.source("app:1"), h.target("app:1"), arm)
	if got := len(parse[ocispec.Index](t, read(t, h.source("app:1"), both.Descriptor)).Manifests); got != 6 {
		t.Errorf("%d entries after converting the other platform, want 6", got)
	}
}

func TestReplaceGivesAPlainManifest(t *testing.T) {
	h := newHub(t)
	odd(t, h.target("app:1"))
	opts := amd64
	opts.Replace = true
	r := convertTo(t, h.source("app:1"), h.target("app:1-erofs"), opts)
	if r.Descriptor.MediaType != ocispec.MediaTypeImageManifest {
		t.Errorf("media type %s", r.Descriptor.MediaType)
	}
}

// metadataOf are the attributes a container would see.
func metadataOf(t *testing.T, fsys fs.FS, name string) erofs.Attr {
	t.Helper()
	return must(erofs.AttrOf(must(fs.Stat(fsys, name))(t)))(t)
}

func TestOmittedDirectoriesComeFromBelow(t *testing.T) {
	h := newHub(t)
	base := gz(t, file{name: "./", mode: 0o711, uid: 7}, file{name: "secret/", mode: 0o700, uid: 1000}, file{name: "tmp/", mode: 0o1777}, file{name: "gone/", mode: 0o700}, file{name: "secret/key", mode: 0o4600, uid: 1000, body: "k"})
	middle := gz(t, file{name: "./", mode: 0o711, uid: 7}, file{name: ".wh.gone"})
	top := gz(t, file{name: "secret/b", body: "b"}, file{name: "tmp/x/y", body: "y"}, file{name: "gone/z", body: "z"}, file{name: "linked => secret/key"})
	for _, profile := range []erofs.Profile{erofs.ProfileRaw, erofs.ProfileZstd, erofs.ProfileTar} {
		t.Run(string(profile), func(t *testing.T) {
			tag(t, h.target("app:1"), manifest(t, h.target("app:1"), "linux", "amd64", base, middle, top))
			r := convertTo(t, h.source("app:1"), h.target("app:2"), convert.Options{Replace: true, Profile: profile})
			m := parse[ocispec.Manifest](t, read(t, h.source("app:2"), r.Descriptor))
			fsys := open(t, h.source("app:2"), m.Layers[2])
			got := map[string]erofs.Attr{}
			for _, name := range []string{".", "secret", "tmp", "tmp/x", "gone", "linked"} {
				got[name] = metadataOf(t, fsys, name)
			}
			want := map[string]erofs.Attr{
				".":      {Mode: 0o711, UID: 7, GID: 7},
				"secret": {Mode: 0o700, UID: 1000, GID: 1000},
				"tmp":    {Mode: 0o1777},
				"tmp/x":  {Mode: 0o755},
				"gone":   {Mode: 0o755}, // whited out below: a new directory
				"linked": {Mode: 0o4600, UID: 1000, GID: 1000},
			}
			if diff := cmp.Diff(got, want); diff != "" {
				t.Error("attributes (-got +want):", diff)
			}
			if body := string(must(fs.ReadFile(fsys, "linked"))(t)); body != "k" {
				t.Errorf("linked: %q", body)
			}
		})
	}
}

// watcher sees what is fetched, and the temporary directory at each push.
type watcher struct {
	convert.Target
	temp string

	mu      sync.Mutex
	fetched map[digest.Digest]int
	names   []string
}

func (w *watcher) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fetched[d.Digest]++
	return w.Target.Fetch(ctx, d)
}

func (w *watcher) FetchRange(ctx context.Context, d ocispec.Descriptor, off, n int64) (io.ReadCloser, error) {
	return w.Target.(*registry.Repository).FetchRange(ctx, d, off, n)
}

func (w *watcher) Push(ctx context.Context, d ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	names, err := fs.Glob(osDir(w.temp), "*")
	w.names = append(w.names, names...)
	return errors.Join(err, w.Target.Push(ctx, d, open))
}

// TestManyLinksToLowerFiles also shows that a killed process leaves nothing: there
// is never a name that it could leave.
func TestManyLinksToLowerFiles(t *testing.T) {
	h := newHub(t)
	var files, links []file
	for i := range 30 {
		name := "f" + strconv.Itoa(i)
		files = append(files, file{name: name, body: name})
		links = append(links, file{name: "l" + strconv.Itoa(i) + " => " + name})
	}
	tag(t, h.target("app:1"), manifest(t, h.target("app:1"), "linux", "amd64", gz(t, files...), gz(t, links...)))
	dst := &watcher{Target: h.target("app:2"), temp: t.TempDir(), fetched: map[digest.Digest]int{}}
	r, err := convert.Image(t.Context(), h.source("app:1"), dst, convert.Options{Replace: true, TempDir: dst.temp})
	if err != nil {
		t.Fatal(err)
	}
	m := parse[ocispec.Manifest](t, read(t, h.source("app:2"), r.Descriptor))
	fsys := open(t, h.source("app:2"), m.Layers[1])
	for _, f := range links {
		name, target, _ := strings.Cut(f.name, " => ")
		if got := string(must(fs.ReadFile(fsys, name))(t)); got != target {
			t.Errorf("%s: %q, want %q", name, got, target)
		}
	}
	if n := dst.fetched[m.Layers[0].Digest]; n != 1 {
		t.Errorf("the lower layer was fetched %d times for %d links", n, len(links))
	}
	if runtime.GOOS == "linux" && len(dst.names) > 0 {
		t.Errorf("temporary files with names: %q", dst.names)
	}
	if left := must(fs.Glob(osDir(dst.temp), "*"))(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestBottomLayerHasNoWhiteouts(t *testing.T) {
	h := newHub(t)
	tag(t, h.target("app:1"), manifest(t, h.target("app:1"), "linux", "amd64", gz(t, file{name: ".wh.x"}, file{name: "d/.wh..wh..opq"}, file{name: "d/f", body: "f"})))
	r := convertTo(t, h.source("app:1"), h.target("app:2"), convert.Options{Replace: true})
	m := parse[ocispec.Manifest](t, read(t, h.source("app:2"), r.Descriptor))
	fsys := open(t, h.source("app:2"), m.Layers[0])
	if _, err := fs.Stat(fsys, "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("x: %v, want no such file", err)
	}
	if erofs.IsOpaque(must(fs.Stat(fsys, "d"))(t)) {
		t.Error("d is opaque")
	}
}

func TestRefusals(t *testing.T) {
	good := gz(t, file{name: "a", body: "a"})
	layer := func(files ...file) func(*testing.T, convert.Target) ocispec.Descriptor {
		return func(t *testing.T, dst convert.Target) ocispec.Descriptor {
			return manifest(t, dst, "linux", "amd64", good, gz(t, files...))
		}
	}
	with := func(change func(*blob)) func(*testing.T, convert.Target) ocispec.Descriptor {
		return func(t *testing.T, dst convert.Target) ocispec.Descriptor {
			b := good
			change(&b)
			return manifest(t, dst, "linux", "amd64", b)
		}
	}
	big := strings.Repeat("0", 1<<20)
	for _, tc := range []struct {
		name string
		make func(*testing.T, convert.Target) ocispec.Descriptor
		want string // in the error
	}{
		{"dot dot", layer(file{name: "../etc/passwd", body: "x"}), "../etc/passwd"},
		{"absolute", layer(file{name: "/etc/passwd", body: "x"}), "/etc/passwd"},
		{"below a symlink", layer(file{name: "l -> /etc"}, file{name: "l/passwd", body: "x"}), "l/passwd"},
		{"long path", layer(file{name: strings.Repeat("d/", 3000) + "f"}), "d/d/d"},
		{"bomb", layer(file{name: "zeros", body: big + big}), "max-bytes"},
		{"below a symlink of a lower layer", func(t *testing.T, dst convert.Target) ocispec.Descriptor {
			return manifest(t, dst, "linux", "amd64", gz(t, file{name: "usr/bin/", mode: 0o755}, file{name: "bin -> usr/bin"}), gz(t, file{name: "bin/sh", body: "x"}))
		}, "symbolic link"},
		{"dangling hard link", layer(file{name: "l => nowhere"}), "nowhere"},
		{"truncated gzip", with(func(b *blob) { b.bytes = b.bytes[:len(b.bytes)-20] }), "decompress"},
		{"not a tar", with(func(b *blob) { b.bytes = []byte(strings.Repeat("garbage ", 1000)) }), "sha256:"},
		{"wrong diff ID of a layer that needs another", func(t *testing.T, dst convert.Target) ocispec.Descriptor {
			top := gz(t, file{name: "l => a"})
			top.diffID = digest.FromString("x")
			return manifest(t, dst, "linux", "amd64", good, top)
		}, "config says"},
		{"wrong diff ID", with(func(b *blob) { b.diffID = digest.FromString("x") }), "config says"},
		{"unknown layer type", with(func(b *blob) { b.mediaType = "application/vnd.example.squashfs" }), "squashfs"},
		{"non-distributable", with(func(b *blob) { b.mediaType = images.MediaTypeDockerSchema2LayerForeignGzip }), "may not be distributed"},
		{"windows", func(t *testing.T, dst convert.Target) ocispec.Descriptor {
			return manifest(t, dst, "windows", "amd64", good)
		}, "Linux"},
		{"schema 1", func(t *testing.T, dst convert.Target) ocispec.Descriptor {
			return putManifest(t, dst, "application/vnd.docker.distribution.manifest.v1+prettyjws", []byte(`{"schemaVersion":1}`))
		}, "schema 2 or OCI"},
		{"twice in the index", func(t *testing.T, dst convert.Target) ocispec.Descriptor {
			d := manifest(t, dst, "linux", "amd64", good)
			return putManifest(t, dst, ocispec.MediaTypeImageIndex, asJSON(t, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{d, d}}))
		}, "twice"},
		{"manifest and index at once", func(t *testing.T, dst convert.Target) ocispec.Descriptor {
			return putManifest(t, dst, ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"manifests":[],"layers":[]}`))
		}, "at once"},
		{"no such platform", func(t *testing.T, dst convert.Target) ocispec.Descriptor {
			d := manifest(t, dst, "linux", "s390x", good)
			d.Platform = &ocispec.Platform{OS: "linux", Architecture: "s390x"}
			return putManifest(t, dst, ocispec.MediaTypeImageIndex, asJSON(t, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{d}}))
		}, "--platform"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHub(t)
			tag(t, h.target("app:1"), tc.make(t, h.target("app:1")))
			temp := t.TempDir()
			_, err := convert.Image(t.Context(), h.source("app:1"), h.target("app:2"), convert.Options{TempDir: temp, Limits: erofs.Limits{Bytes: 1 << 20}})
			if err == nil {
				t.Fatal("converted")
			}
			if !convert.Permanent(err) {
				t.Errorf("not permanent: %v", err)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%q does not name %q", err, tc.want)
			}
			if _, err := h.target("app:2").Head(t.Context()); !errors.Is(err, convert.ErrNotFound) {
				t.Errorf("something was published: %v", err)
			}
			if left := must(fs.Glob(osDir(temp), "*"))(t); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// liar sends other bytes than it was asked for.
type liar struct {
	convert.Source
	change func(desc ocispec.Descriptor, b []byte) []byte
}

func (l liar) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	rc, err := l.Source.Fetch(ctx, d)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	b, err := io.ReadAll(rc)
	return io.NopCloser(bytes.NewReader(l.change(d, b))), err
}

func TestSourceThatLies(t *testing.T) {
	h := newHub(t)
	tag(t, h.target("app:1"), manifest(t, h.target("app:1"), "linux", "amd64", gz(t, file{name: "a", body: strings.Repeat("abc", 1000)})))
	for name, change := range map[string]func([]byte) []byte{
		"other bytes": func(b []byte) []byte { b = slices.Clone(b); b[len(b)/2] ^= 1; return b },
		"more":        func(b []byte) []byte { return append(slices.Clone(b), 0) },
		"less":        func(b []byte) []byte { return b[:len(b)-1] },
	} {
		for _, kind := range []string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayerGzip} {
			t.Run(name+" of "+kind, func(t *testing.T) {
				src := liar{h.source("app:1"), func(d ocispec.Descriptor, b []byte) []byte {
					if d.MediaType == kind {
						return change(b)
					}
					return b
				}}
				if _, err := convert.Image(t.Context(), src, h.target("app:2"), convert.Options{TempDir: t.TempDir()}); err == nil {
					t.Fatal("converted")
				}
				if _, err := h.target("app:2").Head(t.Context()); !errors.Is(err, convert.ErrNotFound) {
					t.Errorf("something was published: %v", err)
				}
			})
		}
	}
}

// meddler moves the tag just before it is moved.
type meddler struct {
	convert.Target
	meddle func()
}

func (m meddler) PutManifest(ctx context.Context, d ocispec.Descriptor, raw []byte) error {
	if d.MediaType == ocispec.MediaTypeImageIndex {
		m.meddle()
	}
	return m.Target.PutManifest(ctx, d, raw)
}

func TestTagMovedMeanwhile(t *testing.T) {
	h := newHub(t)
	tag(t, h.target("app:1"), manifest(t, h.target("app:1"), "linux", "amd64", gz(t, file{name: "a", body: "1"})))
	newer := manifest(t, h.target("app:1"), "linux", "amd64", gz(t, file{name: "a", body: "2"}))
	dst := meddler{h.target("app:1"), func() { tag(t, h.target("app:1"), newer) }}
	_, err := convert.Image(t.Context(), h.source("app:1"), dst, convert.Options{InPlace: true, TempDir: t.TempDir()})
	if !errors.Is(err, convert.ErrTagMoved) {
		t.Errorf("got %v, want ErrTagMoved", err)
	}
	if got := must(h.target("app:1").Head(t.Context()))(t).Digest; got != newer.Digest {
		t.Errorf("the other push is lost: the tag names %s", got)
	}
}

func TestInPlaceNeedsTheFlag(t *testing.T) {
	h := newHub(t)
	tag(t, h.target("app:1"), manifest(t, h.target("app:1"), "linux", "amd64", gz(t, file{name: "a", body: "1"})))
	_, err := convert.Image(t.Context(), h.source("app:1"), h.target("app:1"), convert.Options{TempDir: t.TempDir()})
	var conflict *convert.ConflictError
	if !errors.As(err, &conflict) || !strings.Contains(err.Error(), "--in-place") {
		t.Errorf("got %v, want a ConflictError that names --in-place", err)
	}
}

func TestSignedIndexIsNotMoved(t *testing.T) {
	h := newHub(t)
	image := manifest(t, h.target("app:1"), "linux", "amd64", gz(t, file{name: "a", body: "1"}))
	tag(t, h.target("app:1"), image)
	for _, tc := range []struct {
		name string
		sign func(t *testing.T)
	}{
		{"cosign tag", func(t *testing.T) {
			sig := h.target("app:sha256-" + image.Digest.Encoded() + ".sig")
			tag(t, sig, manifest(t, sig, "linux", "amd64", gz(t)))
		}},
		{"referrer", func(t *testing.T) {
			empty := []byte("{}")
			push(t, h.target("app:1"), descOf(ocispec.MediaTypeEmptyJSON, empty), empty)
			putManifest(t, h.target("app:1"), ocispec.MediaTypeImageManifest, asJSON(t, ocispec.Manifest{
				Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/vnd.example.sbom",
				Config: descOf(ocispec.MediaTypeEmptyJSON, empty), Layers: []ocispec.Descriptor{}, Subject: &image,
			}))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.sign(t)
			opts := convert.Options{InPlace: true, TempDir: t.TempDir()}
			_, err := convert.Image(t.Context(), h.source("app:1"), h.target("app:1"), opts)
			if err == nil || !strings.Contains(err.Error(), "--break-signature") {
				t.Fatalf("got %v, want an error that names --break-signature", err)
			}
			if got := must(h.target("app:1").Head(t.Context()))(t).Digest; got != image.Digest {
				t.Errorf("the tag was moved to %s", got)
			}
			convertTo(t, h.source("app:1"), h.target("app:other-"+strings.ReplaceAll(tc.name, " ", "-")), opts)
		})
	}
	opts := convert.Options{InPlace: true, BreakSignature: true}
	if convertTo(t, h.source("app:1"), h.target("app:1"), opts).Unchanged {
		t.Error("--break-signature did not move the tag")
	}
}

// pusher counts the blobs that are pushed.
type pusher struct {
	convert.Target
	pushes atomic.Int32
}

func (p *pusher) Push(ctx context.Context, d ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	p.pushes.Add(1)
	return p.Target.Push(ctx, d, open)
}

func TestSignedIndexIsRefusedBeforeTheWork(t *testing.T) {
	h := newHub(t)
	sign := func(d ocispec.Descriptor) {
		sig := h.target("app:sha256-" + d.Digest.Encoded() + ".sig")
		tag(t, sig, manifest(t, sig, "linux", "amd64", gz(t)))
	}
	tag(t, h.target("app:1"), manifest(t, h.target("app:1"), "linux", "amd64", gz(t, file{name: "a", body: "1"})))
	tag(t, h.target("app:2"), manifest(t, h.target("app:2"), "linux", "amd64", gz(t, file{name: "a", body: "2"})))
	sign(must(h.target("app:2").Head(t.Context()))(t))
	dst := &pusher{Target: h.target("app:2")}
	_, err := convert.Image(t.Context(), h.source("app:1"), dst, convert.Options{TempDir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "--break-signature") {
		t.Fatalf("got %v, want an error that names --break-signature", err)
	}
	if n := dst.pushes.Load(); n > 0 {
		t.Errorf("%d blobs were pushed before the refusal", n)
	}

	// A result that somebody signed may be made again: nothing moves.
	sign(convertTo(t, h.source("app:1"), h.target("app:3"), convert.Options{}).Descriptor)
	if !convertTo(t, h.source("app:1"), h.target("app:3"), convert.Options{}).Unchanged {
		t.Error("a second run moved the signed tag")
	}
	opts := convert.Options{Profile: erofs.ProfileZstd, TempDir: t.TempDir()}
	if _, err := convert.Image(t.Context(), h.source("app:1"), h.target("app:3"), opts); err == nil || !strings.Contains(err.Error(), "--break-signature") {
		t.Errorf("got %v, want an error that names --break-signature", err)
	}
}

func TestImagesOfNestedIndexesPassThrough(t *testing.T) {
	h, other := newHub(t), newHub(t)
	dst := h.target("app:1")
	platform := func(arch string) ocispec.Descriptor {
		d := manifest(t, dst, "linux", arch, gz(t, file{name: "a", body: arch}))
		d.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
		return d
	}
	index := func(entries ...ocispec.Descriptor) ocispec.Descriptor {
		return putManifest(t, dst, ocispec.MediaTypeImageIndex, asJSON(t, ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: entries}))
	}
	arm := platform("arm64")
	nested := index(arm)
	tag(t, dst, index(platform("amd64"), nested))

	r := convertTo(t, h.source("app:1"), other.target("app:2"), convert.Options{AllPlatforms: true})
	if len(r.Variants) != 1 || r.Variants[0].Platform != "linux(+erofs)/amd64" {
		t.Errorf("variants: %+v", r.Variants)
	}
	if len(r.Skipped) != 1 || r.Skipped[0].Digest != arm.Digest || r.Skipped[0].Platform != "linux/arm64" {
		t.Errorf("skipped: %+v, want %s", r.Skipped, arm.Digest)
	}
	for _, d := range []ocispec.Descriptor{nested, arm} {
		if got := digest.FromBytes(read(t, other.source("app:2"), d)); got != d.Digest {
			t.Errorf("%s: copied as %s", d.Digest, got)
		}
	}

	odd := descOf("application/vnd.example.index", []byte("{}"))
	tag(t, h.target("app:odd"), index(platform("amd64"), index(odd)))
	_, err := convert.Image(t.Context(), h.source("app:odd"), other.target("app:odd"), convert.Options{TempDir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), odd.MediaType) {
		t.Errorf("got %v, want an error that names %s", err, odd.MediaType)
	}
}

func TestSameBytesTwice(t *testing.T) {
	h, other := newHub(t), newHub(t)
	odd(t, h.target("app:1"))
	opts := convert.Options{AllPlatforms: true, Profile: erofs.ProfileZstd, Dialect: erofs.DialectSpec}
	a := convertTo(t, h.source("app:1"), h.target("x:1"), opts)
	opts.Parallel = 1
	b := convertTo(t, h.source("app:1"), other.target("y:2"), opts)
	if a.Descriptor.Digest != b.Descriptor.Digest {
		t.Errorf("first %s, second %s", a.Descriptor.Digest, b.Descriptor.Digest)
	}
}

func TestConfigKeepsUnknownFields(t *testing.T) {
	h := newHub(t)
	dst := h.target("app:1")
	layer := gz(t, file{name: "a", body: "a"})
	push(t, dst, descOf(layer.mediaType, layer.bytes), layer.bytes)
	config := []byte(`{"architecture":"amd64","os":"linux","os.features":["win32k"],"config":{"Healthcheck":{"Test":["CMD","x"]}},"moby.buildkit.trace":"kept","rootfs":{"type":"layers","diff_ids":["` + string(layer.diffID) + `"]}}`)
	push(t, dst, descOf(images.MediaTypeDockerSchema2Config, config), config)
	tag(t, dst, putManifest(t, dst, images.MediaTypeDockerSchema2Manifest, asJSON(t, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: images.MediaTypeDockerSchema2Manifest,
		Config: descOf(images.MediaTypeDockerSchema2Config, config),
		Layers: []ocispec.Descriptor{descOf(images.MediaTypeDockerSchema2LayerGzip, layer.bytes)},
	})))
	r := convertTo(t, h.source("app:1"), h.target("app:2"), convert.Options{Replace: true})
	m := parse[ocispec.Manifest](t, read(t, h.source("app:2"), r.Descriptor))
	got := parse[map[string]any](t, read(t, h.source("app:2"), m.Config))
	want := parse[map[string]any](t, config)
	maps.Copy(want, map[string]any{"os.features": []any{"erofs", "win32k"}, "rootfs": map[string]any{"type": "layers", "diff_ids": []any{string(m.Layers[0].Digest)}}})
	if diff := cmp.Diff(got, want); diff != "" {
		t.Error("config (-got +want):", diff)
	}
	if m.Config.MediaType != ocispec.MediaTypeImageConfig {
		t.Errorf("config type %s beside EROFS layers", m.Config.MediaType)
	}
}
