package encrypt_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/restore/encrypt"
	"github.com/lithify/lithify/test/keys"
)

// TestSkopeo has ocicrypt, in skopeo, decrypt what we encrypt, and decrypts what it does.
func TestSkopeo(t *testing.T) {
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skip("copies images: needs skopeo (test/tools/install.sh)")
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	w.WriteHeader(&tar.Header{Name: "file", Size: 5, Mode: 0o644})
	io.WriteString(w, "hello")
	w.Close()
	layer := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(b.Bytes()), Size: int64(b.Len())}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }

	for name, tc := range map[string]struct {
		keys.Pair
		way string
	}{"RSA": {keys.RSA(t), "jwe"}, "EC": {keys.EC(t), "jwe"}, "certificate": {keys.Certified(t, keys.Certificate{}), "pkcs7"}} {
		t.Run(name, func(t *testing.T) {
			p := tc.Pair
			dir := t.TempDir()
			public, private := filepath.Join(dir, "public.pem"), filepath.Join(dir, "private.pem")
			write(t, public, []byte(p.Public))
			write(t, private, p.Private)

			to, err := encrypt.ParseRecipients(p.Public)
			if err != nil {
				t.Fatal(err)
			}
			sealed, openSealed, err := to.Seal(layer, open)
			if err != nil {
				t.Fatal(err)
			}
			layout(t, filepath.Join(dir, "ours"), sealed, read(t, openSealed), layer.Digest)
			decrypts := []string{"copy", "--decryption-key", private}
			if tc.way == "pkcs7" { // by which it finds what is for the key
				decrypts = append(decrypts, "--decryption-key", public)
			}
			skopeo(t, append(decrypts, "oci:"+filepath.Join(dir, "ours")+":1", "oci:"+filepath.Join(dir, "decrypted")+":1")...)
			if got := blob(t, filepath.Join(dir, "decrypted"), layer.Digest); !bytes.Equal(got, b.Bytes()) {
				t.Errorf("skopeo decrypts our layer to %d other bytes", len(got))
			}

			layout(t, filepath.Join(dir, "plain"), layer, b.Bytes(), layer.Digest)
			theirs := filepath.Join(dir, "theirs")
			skopeo(t, "copy", "--encryption-key", tc.way+":"+public, "oci:"+filepath.Join(dir, "plain")+":1", "oci:"+theirs+":1")
			var index ocispec.Index
			var m ocispec.Manifest
			parse(t, filepath.Join(theirs, "index.json"), &index)
			parse(t, blobFile(theirs, index.Manifests[0].Digest), &m)
			if !encrypt.Is(m.Layers[0]) {
				t.Fatalf("skopeo has not encrypted %+v", m.Layers[0])
			}
			got, err := decrypt(t, m.Layers[0], blob(t, theirs, m.Layers[0].Digest), p.Private)
			if err != nil {
				t.Fatal(err)
			}
			z, err := gzip.NewReader(bytes.NewReader(got)) // skopeo compresses what was not
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, b.Bytes()) {
				t.Errorf("skopeo's layer is decrypted to %d other bytes, %v", len(got), err)
			}
		})
	}
}

func skopeo(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("skopeo", append([]string{"--insecure-policy"}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("skopeo %q: %v\n%s", args, err, out)
	}
}

// layout makes an OCI layout of an image of one layer, with the tag 1.
func layout(t *testing.T, dir string, layer ocispec.Descriptor, raw []byte, diffID digest.Digest) {
	t.Helper()
	put := func(mediaType string, v any) ocispec.Descriptor {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
		write(t, blobFile(dir, d.Digest), raw)
		return d
	}
	write(t, blobFile(dir, layer.Digest), raw)
	config := put(ocispec.MediaTypeImageConfig, ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}},
	})
	m := put(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{layer},
	})
	m.Annotations = map[string]string{ocispec.AnnotationRefName: "1"}
	index, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{m}})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "index.json"), index)
	write(t, filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`))
}

func blobFile(dir string, d digest.Digest) string {
	return filepath.Join(dir, "blobs", "sha256", d.Encoded())
}

func blob(t *testing.T, dir string, d digest.Digest) []byte {
	t.Helper()
	b, err := os.ReadFile(blobFile(dir, d))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parse(t *testing.T, file string, v any) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, file string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
