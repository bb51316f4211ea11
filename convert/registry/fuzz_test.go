package registry

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// What an index lets through is safe to make paths of, and writing it back
// changes nothing but the one entry.
func FuzzLayoutIndex(f *testing.F) {
	d := digest.FromString("x").String()
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"mediaType":"m","digest":"`+d+`","size":1,"annotations":{"org.opencontainers.image.ref.name":"v1"}}]}`), "v1")
	f.Add([]byte(`{"Manifests":[],"manifests":null,"x":1}`), "")
	f.Add([]byte(`null`), "t")
	ours := ocispec.Descriptor{MediaType: "ours", Digest: digest.FromString("ours"), Size: 4}
	f.Fuzz(func(t *testing.T, raw []byte, tag string) {
		x, err := parseLayoutIndex(raw)
		if err != nil {
			return
		}
		x.choose(tag)
		for _, desc := range x.descs {
			if p := blobPath(desc.Digest); !strings.HasPrefix(p, "blobs/") || strings.Contains(p, "..") {
				t.Fatalf("the blob's path is %q", p)
			}
		}
		others := len(x.descs)
		if at, err := x.named(tag); err != nil {
			return
		} else if at >= 0 {
			others--
		}
		if err := x.set(tag, ours); err != nil {
			return
		}
		out, err := x.bytes()
		if err != nil {
			t.Fatal(err)
		}
		y, err := parseLayoutIndex(out)
		if err != nil {
			t.Fatalf("%s\nwas written as\n%s: %v", raw, out, err)
		}
		if len(y.descs) != others+1 {
			t.Fatalf("%s\nwas written as\n%s", raw, out)
		}
		if at, err := y.named(strings.ToValidUTF8(tag, "\uFFFD")); tag == strings.ToValidUTF8(tag, "") && (err != nil || at < 0 || y.descs[at].Digest != ours.Digest) {
			t.Fatalf("%q is not in %s: %v", tag, out, err)
		}
	})
}

func FuzzDockerManifest(f *testing.F) {
	f.Add([]byte(`[{"Config":"c","RepoTags":["a:b"],"Layers":["l"]}]`), "a:b", []byte(`{"rootfs":{"diff_ids":["sha256:x"]}}`))
	f.Add([]byte(`[]`), "", []byte(`null`))
	f.Fuzz(func(t *testing.T, raw []byte, ref string, config []byte) {
		image, err := parseDockerManifest(raw, ref)
		if err != nil {
			return
		}
		ids, err := parseDiffIDs(config, len(image.Layers))
		if err == nil && len(ids) != len(image.Layers) {
			t.Fatalf("%d layers, %d diff IDs", len(image.Layers), len(ids))
		}
	})
}

// Every entry that a tar is said to have lies in it.
func FuzzArchive(f *testing.F) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "index.json", Typeflag: tar.TypeReg, Size: 3, Mode: 0o644},
		{Name: "blobs/sha256/" + digest.FromString("x").Encoded(), Typeflag: tar.TypeReg, Size: 3, Mode: 0o644, PAXRecords: map[string]string{"L.x": "1"}},
		{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../index.json"},
	} {
		w.WriteHeader(&h)
		w.Write(make([]byte, h.Size))
	}
	w.Close()
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:700])
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := readEntries(bytes.NewReader(raw))
		if err != nil {
			return
		}
		for name := range e {
			s, err := e.find(name)
			if err != nil {
				continue
			}
			if s.off < 0 || s.size < 0 || s.off+s.size > int64(len(raw)) {
				t.Fatalf("%q lies at %d+%d of %d", name, s.off, s.size, len(raw))
			}
		}
		for d := range e.layoutBlobs() {
			if d.Validate() != nil {
				t.Fatalf("blob %q", d)
			}
		}
	})
}

// A reference that is refused does not say its password, and one that is taken
// makes URLs and paths of its own only.
func FuzzReference(f *testing.F) {
	for _, ref := range []string{"debian", "h:5/a:b@sha256:x", "oci:a:b", "oci::", "docker://x", "a:s3cr3t@b/c", "oci-archive:x@y", strings.Repeat("0", 250)} {
		f.Add(ref)
	}
	f.Fuzz(func(t *testing.T, ref string) {
		p, err := parse(ref)
		if err != nil {
			return
		}
		if p.scheme != "" {
			if p.path == "" {
				t.Fatalf("%q has no path", ref)
			}
			return
		}
		r, err := parseRepository(p.path, false)
		if err != nil {
			return
		}
		c := &client{repo: r.Context()}
		u := c.url("manifests", r.Identifier())
		if !strings.HasPrefix(u.EscapedPath(), "/v2/") || strings.Contains(u.Path, "..") && !strings.Contains(ref, "..") || u.RawQuery != "" || u.User != nil {
			t.Fatalf("%q becomes %s", ref, u)
		}
		if _, err := parseRepository(r.Name(), false); err != nil {
			t.Fatalf("%q is named %q, which is refused: %v", ref, r.Name(), err)
		}
	})
}

func FuzzRedact(f *testing.F) {
	f.Add("https://", "/x?y=")
	f.Add("Get \"http://h/", "\": EOF")
	f.Fuzz(func(t *testing.T, before, after string) {
		// Whatever stands around it, a userinfo is not shown.
		if strings.Contains(before+after, "s3cr3t") {
			return
		}
		if got := Redact(before + " https://user:s3cr3t@host/" + after); strings.Contains(got, "s3cr3t") {
			t.Fatalf("%q", got)
		}
	})
}
