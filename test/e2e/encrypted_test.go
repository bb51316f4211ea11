//go:build linux

package e2e_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/test/keys"
)

// pemPair makes files of a recipient's keys.
func pemPair(t testing.TB) (public, private string) {
	t.Helper()
	return pemFiles(t, keys.EC(t))
}

func pemFiles(t testing.TB, pair keys.Pair) (public, private string) {
	t.Helper()
	dir := t.TempDir()
	public, private = filepath.Join(dir, "public.pem"), filepath.Join(dir, "private.pem")
	for file, content := range map[string][]byte{public: []byte(pair.Public), private: pair.Private} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return public, private
}

// stored is what a registry has of an image: its manifest and its blobs, out of their
// compression, if they are in one.
func stored(t testing.TB, ref string) string {
	t.Helper()
	crane := need(t, "crane")
	raw := output(t, crane, "manifest", "--insecure", ref)
	var m ocispec.Manifest
	if err := json.Unmarshal([]byte(raw), &m); err != nil {
		t.Fatal(err)
	}
	repository, _, _ := strings.Cut(ref, "@")
	repository = repository[:strings.LastIndex(repository, ":")]
	z, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for _, d := range append(m.Layers, m.Config) {
		blob := []byte(output(t, crane, "blob", "--insecure", repository+"@"+d.Digest.String()))
		if plain, err := z.DecodeAll(blob, nil); err == nil {
			blob = plain
		}
		raw += string(blob)
	}
	return raw
}

// TestCheckpointEncrypted looks for what is in a container's memory, and has nobody restore
// it who has no key: also where another has who has one.
func TestCheckpointEncrypted(t *testing.T) {
	d, registry, c, plain := saved(t, 2, "overlayfs")
	const secret = "in memory, $(cat /count) in the file" // of its script, which its shell has in memory
	public, private := pemPair(t)
	otherPublic, other := pemPair(t)
	certificate, certified := pemFiles(t, keys.Certified(t, keys.Certificate{}))
	run := func(tag string, flags ...string) string {
		args := append([]string{"checkpoint", "--containerd", d.address, "--insecure"}, flags...)
		return strings.TrimSpace(output(t, lithify(t), append(args, c.id, registry+"/"+tag)...))
	}
	sealed := run("sealed:1", "--encrypt-to", "jwe:"+public, "--encrypt-to", otherPublic, "--encrypt-to", "pkcs7:"+certificate)
	if !strings.Contains(stored(t, plain), secret) {
		t.Fatalf("%q is not in the container's memory", secret)
	}
	if got := stored(t, sealed); strings.Contains(got, secret) || !strings.Contains(got, "+encrypted") {
		t.Errorf("%s has %q in the open", sealed, secret)
	}

	_, nobodys := pemPair(t)
	refused := func(when string) {
		for name, args := range map[string][]string{
			"no key":       d.restoreArgs(sealed, "two"),
			"another's":    d.restoreArgs(sealed, "two", "--decrypt-with", nobodys),
			"a public key": d.restoreArgs(sealed, "two", "--decrypt-with", public),
		} {
			code, said := exit(t, lithify(t), args...)
			if code == 0 || !strings.Contains(strings.ToLower(said), "key") || strings.Contains(said, "BEGIN") {
				t.Errorf("%s, %s: exit code %d, %q", name, when, code, said)
			}
		}
	}
	refused("before")
	for name, key := range map[string]string{"public-key": private, "second-key": other, "certificate": certified} {
		two := d.restored(t, name)
		output(t, lithify(t), d.restoreArgs(sealed, two.id, "--decrypt-with", key)...)
		two.goesOn(t, two.count(t))
	}
	refused("when it is in the cache")

	if code, said := exit(t, lithify(t), "checkpoint", "--encrypt-to", private, c.id, registry+"/x:1"); code != 2 || !strings.Contains(said, "PUBLIC KEY") {
		t.Errorf("to a private key: exit code %d, %q", code, said)
	}
}

// TestCheckpointSplitEncrypted encrypts memory in chunks, of which no two checkpoints have
// one in common.
func TestCheckpointSplitEncrypted(t *testing.T) {
	if testing.Short() {
		t.Skip("five checkpoints: long lane")
	}
	d, registry, c := startCounting(t, 1, "overlayfs")
	c.goesOn(t, 3)
	public, private := pemPair(t)
	seen := map[digest.Digest]bool{}
	var ref string
	for _, flags := range [][]string{nil, {"--encrypt-to", public}, {"--encrypt-to", public}, nil} {
		args := append([]string{"checkpoint", "--split", "--containerd", d.address, "--insecure"}, flags...)
		made := strings.TrimSpace(output(t, lithify(t), append(args, c.id, registry+"/split:1")...))
		var m ocispec.Manifest
		raw := output(t, need(t, "crane"), "manifest", "--insecure", made)
		if err := json.Unmarshal([]byte(raw), &m); err != nil {
			t.Fatal(err)
		}
		if len(m.Layers) < 2 {
			t.Fatalf("%s: %d layers, want packs", made, len(m.Layers))
		}
		for _, l := range m.Layers {
			if seen[l.Digest] || strings.HasSuffix(l.MediaType, "+encrypted") != (flags != nil) {
				t.Errorf("%s after %d others has %s of type %s", made, len(seen), l.Digest, l.MediaType)
			}
			seen[l.Digest] = true
		}
		if flags != nil {
			ref = made
		}
	}
	if code, said := exit(t, lithify(t), d.restoreArgs(ref, "two")...); code == 0 || !strings.Contains(said, "key") {
		t.Errorf("without a key: exit code %d, %q", code, said)
	}
	two := d.restored(t, "two")
	output(t, lithify(t), d.restoreArgs(ref, two.id, "--decrypt-with", private)...)
	two.goesOn(t, two.count(t))
}

// In a pool the worker has the key, and the job the public one.
func TestCheckpointEncryptedPool(t *testing.T) {
	if testing.Short() {
		t.Skip("the same, by a worker: long lane")
	}
	d, registry, c, _ := saved(t, 1, "overlayfs")
	public, private := pemPair(t)
	p := startPool(t, 0)
	p.worker(t, "node-1", "--containerd", d.address, "--node", "node-1", "--restore-from", "*", "--restore-root", d.restoreRoot(), "--restore-decrypt-with", private)
	p.lists(t, "node-1")
	ref := strings.TrimSpace(p.output(t, "submit", "checkpoint", "--wait", "--insecure", "--node", "node-1", "--encrypt-to", public, c.id, registry+"/pool:1"))
	two := d.restored(t, "two")
	p.output(t, "submit", "restore", "--wait", "--insecure", "--node", "node-1", "--name", two.id, ref)
	two.goesOn(t, two.count(t))

	key, err := os.ReadFile(private)
	if err != nil {
		t.Fatal(err)
	}
	line := bytes.Split(key, []byte("\n"))[1]
	if jobs := p.output(t, "jobs", "list", "-o", "json"); bytes.Contains([]byte(jobs), line) {
		t.Error("a job has the private key")
	}
}
