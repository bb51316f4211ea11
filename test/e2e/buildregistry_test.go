//go:build linux

package e2e_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestBuildGuarded builds on an image of a registry that wants a password, and pushes to
// one that wants tokens. A wrong password is told from other failures, and never told.
func TestBuildGuarded(t *testing.T) {
	b := startBuilder(t)
	basic, _ := startBasicRegistry(t, t.TempDir())
	token, _ := startTokenRegistry(t, t.TempDir(), map[string]user{"robot": {password, []string{"private/*"}}})
	login := func(passwords map[string]string) { t.Setenv("DOCKER_CONFIG", dockerConfig(t, "robot", passwords)) }

	login(map[string]string{basic: password, token: password})
	b.registry = basic
	base := b.build(b.context("FROM scratch\nADD base.tar /\n"), "private/base:1")
	b.registry = token
	dir := b.context("ARG BASE=scratch\nFROM $BASE\nRUN echo x > /x\n")
	app := b.build(dir, "private/app:1", "--build-arg", "BASE="+base, "--cache-to", "type=registry,ref="+token+"/private/cache:1")
	if n := len(manifest[ocispec.Index](t, app).Manifests); n != 2 {
		t.Errorf("the index has %d manifests, want the image and its variant", n)
	}

	for name, tc := range map[string]struct {
		passwords map[string]string
		code      int
	}{
		"of the base":    {map[string]string{basic: "wr0ng-" + canary, token: password}, 1}, // BuildKit tells no kind
		"of the target":  {map[string]string{basic: password, token: "wr0ng-" + canary}, 4},
		"none of either": {nil, 4},
	} {
		t.Run(name, func(t *testing.T) {
			b := &builder{t, b.registry, shortDir(t)} // what another has pulled would be there
			t.Setenv("DOCKER_CONFIG", dockerConfig(t, "robot", tc.passwords))
			code, said := exit(t, lithify(t), b.args(dir, "private/none:1", "--verbose", "--build-arg", "BASE="+base)...)
			if code != tc.code || !strings.Contains(said, "401 Unauthorized") && !strings.Contains(said, "UNAUTHORIZED") || strings.Contains(said, canary) {
				t.Errorf("exit code %d, %q; want %d, a word of the refusal and no password", code, tail(said), tc.code)
			}
		})
	}
}

// TestBuildRedirected: where a registry sends buildkitd with a signed URL is not told, also
// where that leads nowhere.
func TestBuildRedirected(t *testing.T) {
	b := startBuilder(t)
	base := b.build(b.context("FROM scratch\nADD base.tar /\n"), "base:1")
	srv := serveHTTP(t, proxy(b.registry, func(r *http.Response) {
		if bringsBlob(r, 100_000) {
			r.Body.Close()
			r.StatusCode, r.Status, r.Body, r.ContentLength = http.StatusTemporaryRedirect, "", http.NoBody, 0
			r.Header = http.Header{"Location": {"http://127.0.0.1:1/blob?X-Amz-Signature=" + canary}}
		}
	}))
	b.root = shortDir(t) // what was pulled is not pulled again
	dir := b.context("FROM " + strings.Replace(base, b.registry, hostOf(srv), 1) + "\nRUN true\n")
	code, said := exit(t, lithify(t), b.args(dir, "none:1", "--verbose")...)
	if code == 0 || !strings.Contains(said, "127.0.0.1:1") || strings.Contains(said, canary) {
		t.Errorf("exit code %d, %s; want a word of where it was sent and no signature", code, tail(said))
	}
}

// TestBuildCaches: what is in a registry's cache is not run again, also where it is in no
// layer of the image; with --no-cache it is.
func TestBuildCaches(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	b := startBuilder(t)
	dir := b.context("FROM scratch AS made\nADD base.tar /\nRUN cat /proc/sys/kernel/random/uuid > /id\nFROM scratch\nCOPY --from=made /id /id\n")
	cache := "type=registry,ref=" + b.registry + "/cache:1"
	first := b.build(dir, "app:1", "--cache-to", cache+",mode=max")
	b.root = shortDir(t)
	if again := b.build(dir, "app:1", "--cache-from", cache); again != first {
		t.Errorf("with the cache %s, want %s", again, first)
	}
	if again := b.build(dir, "app:1", "--no-cache"); again == first {
		t.Errorf("with --no-cache %s, too", again)
	}
}

// TestBuildPlatforms cross-builds for two platforms: one index, with a variant of each.
func TestBuildPlatforms(t *testing.T) {
	b := startBuilder(t)
	dir := b.context(`FROM --platform=$BUILDPLATFORM scratch AS made
ADD base.tar /
ARG TARGETARCH
RUN echo for $TARGETARCH > /arch
FROM scratch
COPY --from=made /arch /arch
`)
	var got []string
	for _, m := range manifest[ocispec.Index](t, b.build(dir, "app:1", "--platform", "linux/amd64,linux/arm64")).Manifests {
		got = append(got, fmt.Sprint(m.Platform.Architecture, m.Platform.OSFeatures))
	}
	if got, want := strings.Join(got, " "), "amd64[] arm64[] amd64[erofs] arm64[erofs]"; got != want {
		t.Errorf("the index has %s, want %s", got, want)
	}
}
