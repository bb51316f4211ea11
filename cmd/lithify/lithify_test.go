package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/lithify/lithify/convert"
)

// lithify runs one command as main does.
func lithify(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = execute(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// must gives the stdout of a command that ends well.
func must(t *testing.T, args ...string) string {
	t.Helper()
	code, stdout, stderr := lithify(t, args...)
	if code != 0 {
		t.Fatalf("%v: exit code %d: %s", args, code, stderr)
	}
	return stdout
}

func newRegistry(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// pushImage pushes an image of random layers for a platform.
func pushImage(t *testing.T, ref, os, arch string) v1.Hash {
	t.Helper()
	image, err := random.Image(2000, 2)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = os, arch
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, image, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

func TestConvertPrintsOneLine(t *testing.T) {
	host := newRegistry(t)
	pushImage(t, host+"/app:1", "linux", "amd64")
	code, stdout, stderr := lithify(t, "convert", "--insecure", host+"/app:1", host+"/app:2")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	tag, err := name.NewTag(host+"/app:2", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	head, err := remote.Head(tag)
	if err != nil {
		t.Fatal(err)
	}
	if want := host + "/app:2@" + head.Digest.String() + "\n"; stdout != want {
		t.Errorf("stdout %q, want %q", stdout, want)
	}
	if got := strings.Count(stderr, "converted sha256:"); got != 2 {
		t.Errorf("%d lines of progress, want one a layer:\n%s", got, stderr)
	}
}

func TestConvertJSON(t *testing.T) {
	host := newRegistry(t)
	source := pushImage(t, host+"/app:1", "linux", "amd64")
	code, stdout, stderr := lithify(t, "convert", "-o", "json", "--insecure", host+"/app:1", "oci:"+t.TempDir()+":x")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var r convert.Result
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatal(err)
	}
	if r.SourceDigest.String() != source.String() || len(r.Variants) != 1 || len(r.Variants[0].Layers) != 2 {
		t.Errorf("result %+v", r)
	}
}

func TestExitCodes(t *testing.T) {
	host := newRegistry(t)
	old := pushImage(t, host+"/app:1", "linux", "amd64")
	pushImage(t, host+"/app:1", "linux", "amd64")
	pushImage(t, host+"/win:1", "windows", "amd64")
	dead := httptest.NewServer(nil)
	dead.Close()
	gone := strings.TrimPrefix(dead.URL, "http://")
	t.Setenv("LITHIFY_CONTEXT", filepath.Join(t.TempDir(), "none"))
	for _, tc := range []struct {
		name string
		args []string
		want int
		says string
	}{
		{"no arguments", []string{"convert"}, 2, "SRC DST"},
		{"unknown flag", []string{"convert", "--fast", "a", "b"}, 2, "--fast"},
		{"unknown command", []string{"transmogrify"}, 2, "transmogrify"},
		{"unknown verb", []string{"submit", "transmogrify"}, 2, "transmogrify"},
		{"prune one tag", []string{"checkpoint", "prune", "--keep", "1", "--delete", "--insecure", host + "/app:1"}, 2, "without a tag"},
		{"prune a digest", []string{"checkpoint", "prune", "--keep", "1", "--insecure", host + "/app@" + old.String()}, 2, "without a tag"},
		{"abort without time", []string{"rollout", "abort", "--timeout", "0", "rollout-a"}, 2, "--timeout"},
		{"bad profile", []string{"convert", "--profile", "zip", "a", "b"}, 2, "erofs+zstd"},
		{"verity in blocks of 512", []string{"convert", "--profile", "erofs-tar", "--verity", "a", "b"}, 2, "--verity"},
		{"tails of a tar", []string{"convert", "--profile", "erofs-tar", "--inline-tails", "a", "b"}, 2, "--inline-tails"},
		{"verity of an index", []string{"convert", "--profile", "erofs-index", "--dialect", "spec", "--verity", "a", "b"}, 2, "--verity"},
		{"index without roles", []string{"convert", "--profile", "erofs-index", "a", "b"}, 2, "--dialect spec"},
		{"cache without a place", []string{"cache", "export", "a"}, 2, "export SRC DIR"},
		{"cache of all and one", []string{"cache", "export", "--all-platforms", "--platform", "linux/arm64", host + "/app:1", "x"}, 2, "--all-platforms"},
		{"cache verified by halves", []string{"cache", "export", "--verify", "stack", host + "/app:1", "x"}, 2, "full, none"},
		{"bad output", []string{"convert", "-o", "xml", "a", "b"}, 2, "xml"},
		{"bad platform", []string{"convert", "--platform", "a/b/c/d/e", "a", "b"}, 2, "a/b/c/d/e"},
		{"build for nobody", []string{"build", "."}, 2, "-t is missing"},
		{"build into a file", []string{"build", ".", "-t", "oci:x"}, 2, "a registry"},
		{"bad progress", []string{"build", ".", "-t", host + "/app:2", "--progress", "loud"}, 2, "loud"},
		{"progress on no terminal", []string{"submit", "build", ".", "-t", host + "/app:2", "--progress", "tty"}, 2, "--progress tty"},
		{"metadata into a directory", []string{"build", ".", "-t", host + "/app:2", "--metadata-file", t.TempDir()}, 2, "a directory"},
		{"secret without a name", []string{"build", ".", "-t", host + "/app:2", "--secret", "src=x"}, 2, "id=ID"},
		{"secret of a restore without a name", []string{"restore", host + "/app:1", "--name", "x", "--secret", "src=x"}, 2, "id=ID"},
		{"secret of a restore given twice", []string{"restore", host + "/app:1", "--name", "x", "--secret", "id=a,src=x", "--secret", "id=a,src=y"}, 2, "given twice"},
		{"no file of variables", []string{"restore", host + "/app:1", "--name", "x", "--env-file", "/nonexistent"}, 2, "--env-file"},
		{"bad build argument", []string{"build", ".", "-t", host + "/app:2", "--build-arg", "=x"}, 2, "NAME=VALUE"},
		{"token in a URL", []string{"build", "https://x@example.com/a.git", "-t", host + "/app:2"}, 2, "GIT_AUTH_TOKEN"},
		{"metadata of what is not there", []string{"submit", "build", ".", "-t", host + "/app:2", "--metadata-file", "x"}, 2, "--wait"},
		{"worker's files as cache", []string{"submit", "build", ".", "-t", host + "/app:2", "--cache-from", "type=local,src=/"}, 2, "registry or inline"},
		{"archive as target", []string{"convert", "a", "oci-archive:x.tar"}, 2, "oci:DIR"},
		{"digest as target", []string{"convert", host + "/app:1", host + "/app@sha256:" + strings.Repeat("0", 64)}, 2, "sha256:0000"},
		{"no path", []string{"convert", "oci:", host + "/app:2"}, 2, "no path after oci"},
		{"no reference", []string{"convert", "UPPER/app:1", host + "/app:2"}, 2, "UPPER/app:1"},
		{"no pool to submit to", []string{"submit", "convert", gone + "/app:1", host + "/app:2"}, 5, "lithify serve"},
		{"layout onto itself", []string{"convert", "oci:dir:1", "oci:./dir"}, 2, "oci:./dir:TAG"},
		{"empty platform", []string{"convert", "--platform", "", host + "/app:1", host + "/app:2"}, 2, "--platform"},
		{"limit of nothing", []string{"convert", "--max-bytes", "0", host + "/app:1", host + "/app:2"}, 2, "--max-bytes"},
		{"limit below zero", []string{"convert", "--max-entries", "-1", host + "/app:1", host + "/app:2"}, 2, "below zero"},
		{"list of nothing", []string{"jobs", "list", "--limit", "-1"}, 2, "--limit -1"},
		{"no nkey file", []string{"jobs", "list", "--nats", "nats://" + gone, "--nkey", "/none"}, 4, "/none"},
		{"refused image", []string{"convert", "--insecure", host + "/win:1", host + "/win:2"}, 3, "Linux"},
		{"no such tag", []string{"convert", "--insecure", host + "/app:none", host + "/app:2"}, 4, "app:none"},
		{"no such directory", []string{"convert", "oci:" + filepath.Join(t.TempDir(), "none"), host + "/app:2"}, 4, "none"},
		{"registry away", []string{"convert", "--insecure", gone + "/app:1", host + "/app:2"}, 5, gone},
		{"pool away", []string{"jobs", "list", "--nats", "nats://" + gone}, 5, gone},
		{"no pool", []string{"jobs", "list"}, 5, "lithify serve"},
		{"no URL of a pool", []string{"jobs", "list", "--nats", "nats://a:b%zz@c"}, 2, "not a URL"},
		{"tag moved since", []string{"convert", "--insecure", "--in-place", host + "/app:1@" + old.String(), host + "/app:1"}, 6, "any more"},
		{"in place", []string{"convert", "--insecure", host + "/app:1", host + "/app:1"}, 6, "--in-place"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, stdout, stderr := lithify(t, tc.args...)
			if code != tc.want || !strings.Contains(stderr, tc.says) || stdout != "" {
				t.Errorf("exit code %d, want %d; stdout %q; stderr %q, want it to name %q", code, tc.want, stdout, stderr, tc.says)
			}
		})
	}
}

// servePool runs lithify serve in this process, where lithify submit finds it.
func servePool(t *testing.T) {
	t.Helper()
	t.Setenv("LITHIFY_CONTEXT", filepath.Join(t.TempDir(), "context.json"))
	if code, _, stderr := lithify(t, "jobs", "list"); code != 5 || !strings.Contains(stderr, "lithify serve") {
		t.Fatalf("without a pool: exit code %d, %q", code, stderr)
	}
	serve(t, t.TempDir())
}

// serve runs lithify serve on a directory until stop, which is also called at the end
// of the test.
func serve(t *testing.T, dir string, flags ...string) (stop func()) {
	t.Helper()
	_, stop = background(t, append([]string{"serve", "--dir", dir}, flags...)...)
	return stop
}

// background runs a command that prints a line when it is up, until stop, which is also
// called at the end of the test.
func background(t *testing.T, args ...string) (line string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	up, w := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- execute(ctx, args, w, os.Stderr)
		w.Close()
	}()
	lines := bufio.NewReader(up)
	stop = sync.OnceFunc(func() {
		cancel(errors.New("test over"))
		go io.Copy(io.Discard, up)
		if code := <-ended; code != 0 && code != 130 {
			t.Errorf("%s ended with %d", args[0], code)
		}
	})
	t.Cleanup(stop)
	line, err := lines.ReadString('\n')
	if err != nil {
		t.Fatalf("%s did not come up", args[0])
	}
	go io.Copy(io.Discard, up)
	return line, stop
}

// TestPool submits to a pool in this process and looks at it.
func TestPool(t *testing.T) {
	servePool(t)
	host := newRegistry(t)
	pushImage(t, host+"/app:1", "linux", "amd64")
	code, here, stderr := lithify(t, "convert", "--insecure", host+"/app:1", host+"/app:2")
	if code != 0 {
		t.Fatal(stderr)
	}
	code, there, stderr := lithify(t, "submit", "convert", "--wait", "--insecure", host+"/app:1", host+"/app:3")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	if _, a, _ := strings.Cut(here, "@"); !strings.HasSuffix(there, "@"+a) {
		t.Errorf("converted here %q, in the pool %q", here, there)
	}
	code, id, stderr := lithify(t, "submit", "convert", "--insecure", "--idempotency-key", "k", host+"/app:1", host+"/app:4")
	if code != 0 {
		t.Fatal(stderr)
	}
	if _, again, _ := lithify(t, "submit", "convert", "--insecure", "--idempotency-key", "k", host+"/app:1", host+"/app:4"); again != id {
		t.Errorf("submitted twice under one key: %q and %q", id, again)
	}
	if code, stdout, stderr := lithify(t, "jobs", "watch", strings.TrimSpace(id)); code != 0 || !strings.Contains(stdout, "done") {
		t.Errorf("watch: exit code %d, %q, %q", code, stdout, stderr)
	}
	if _, stdout, _ := lithify(t, "jobs", "list", "--kind", "convert"); strings.Count(stdout, "done") != 2 {
		t.Errorf("list: %q", stdout)
	}
	if _, stdout, _ := lithify(t, "workers"); strings.Count(stdout, "\n") != 2 {
		t.Errorf("workers: %q", stdout)
	}
	if _, stdout, _ := lithify(t, "schedulers"); strings.Count(stdout, "\n") != 2 || !strings.Contains(stdout, "leader") {
		t.Errorf("schedulers: %q", stdout)
	}
	code, _, stderr = lithify(t, "submit", "convert", "--wait", "--insecure", "--platform", "linux/s390x", host+"/app:1", host+"/app:5")
	if code != 3 || !strings.Contains(stderr, "linux/s390x") {
		t.Errorf("a refused job: exit code %d, %q", code, stderr)
	}
}
