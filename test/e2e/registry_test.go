//go:build linux

package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/lithify/lithify/test/corpus"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var listening = regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)

// startRegistry runs distribution's registry and returns its address.
func startRegistry(t testing.TB) string {
	t.Helper()
	address, _ := runRegistry(t, t.TempDir(), "")
	return address
}

// runRegistry runs one with more settings than it needs.
func runRegistry(t testing.TB, dir, settings string) (address string, p *process) {
	t.Helper()
	config := filepath.Join(dir, "registry.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: info, accesslog: {disabled: true}}\nstorage:\n  filesystem: {rootdirectory: %s}\n  delete: {enabled: true}\nhttp: {addr: \"127.0.0.1:0\"}\n%s", dir, settings)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := command(t, need(t, "registry"), "serve", config)
	cmd.Env = append(cmd.Env, "OTEL_TRACES_EXPORTER=none")
	p = start(t, cmd)
	return p.says(t, "address", func(line string) (string, bool) {
		m := listening.FindStringSubmatch(line)
		if m == nil {
			return "", false
		}
		return m[1], true
	}), p
}

// push puts an image or index into a registry by crane: Debian's skopeo finds no
// Docker manifest in an OCI layout.
func push(t testing.TB, what mutate.Appendable, ref string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	if err := corpus.WriteLayout(dir, "it", what); err != nil {
		t.Fatal(err)
	}
	output(t, need(t, "crane"), "push", "--insecure", dir, ref)
}

// convert runs lithify convert and returns the reference by digest it printed.
func convert(t testing.TB, src, dst string, flags ...string) string {
	t.Helper()
	args := append([]string{"convert", "--insecure", src, dst}, flags...)
	out := output(t, lithify(t), args...)
	ref := regexp.MustCompile(`^(\S+@sha256:[0-9a-f]{64})\n$`).FindStringSubmatch(out)
	if ref == nil {
		t.Fatalf("lithify convert: got %q, want one line DST@DIGEST", out)
	}
	return ref[1]
}

// manifest fetches an index or manifest as crane sees it.
func manifest[T ocispec.Index | ocispec.Manifest](t testing.TB, ref string) (m T) {
	t.Helper()
	if err := json.Unmarshal([]byte(output(t, need(t, "crane"), "manifest", "--insecure", ref)), &m); err != nil {
		t.Fatal(err)
	}
	return m
}
