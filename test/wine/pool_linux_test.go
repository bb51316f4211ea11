package wine_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"github.com/lithify/lithify/cimfs"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/test/corpus"
	"github.com/lithify/lithify/test/wine"
	"github.com/lithify/lithify/test/wine/winlayer"
)

// patience is how long anything may take to be ready here.
const patience = time.Minute

// pool is lithify serve, whose worker takes no layers of Windows, and a registry.
type pool struct {
	registry string
	lithify  string
	home     string
	temp     string // of the worker on Windows
	calls    string // that this made of CimFS
}

func newPool(t *testing.T, p *wine.Prefix) *pool {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	o := &pool{registry: strings.TrimPrefix(server.URL, "http://"), lithify: filepath.Join(t.TempDir(), "lithify"), home: dir, temp: t.TempDir(), calls: filepath.Join(dir, "calls.jsonl")}
	if out, err := exec.Command("go", "build", "-o", o.lithify, "../../cmd/lithify").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	running(t, o.command(t.Context(), "serve", "--dir", filepath.Join(dir, "queue"), "--slots", "2"), "pool up")
	return o
}

// command is lithify's, as the pool's user.
func (o *pool) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, o.lithify, args...)
	cmd.Env = append(os.Environ(), "HOME="+o.home, "XDG_CONFIG_HOME="+o.home, "XDG_CACHE_HOME="+o.home, "LITHIFY_CONTEXT=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// worker starts one on Windows, with what env has for the emulated library.
func (o *pool) worker(t *testing.T, p *wine.Prefix, name string, env ...string) *exec.Cmd {
	t.Helper()
	t.Setenv("GOFLAGS", "-tags=emulated")
	exe := p.Program(t, "lithify-worker", "github.com/lithify/lithify/cmd/worker")
	env = append(env, "CIMEMU_LOG="+wine.Path(o.calls), "LITHIFY_CONTEXT="+wine.Path(filepath.Join(o.home, "lithify", "context.json")))
	cmd := p.Command(t.Context(), exe, env, "--name", name, "--slots", "1", "--temp-dir", wine.Path(o.temp), "--ledger-key", wine.Path(filepath.Join(o.home, "queue", "ledger.pem")))
	running(t, cmd, "host checked")
	return cmd
}

// running starts a program that ends with the test, and waits until it says that it is up.
func running(t *testing.T, cmd *exec.Cmd, up string) {
	t.Helper()
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready, read, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(read)
		said := false
		for lines := bufio.NewScanner(r); lines.Scan(); {
			fmt.Fprintln(t.Output(), lines.Text())
			if !said && strings.Contains(lines.Text(), up) {
				said = true
				close(ready)
			}
		}
	}()
	go func() {
		defer close(ended)
		cmd.Wait()
		w.Close()
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
		<-read
	})
	select {
	case <-ready:
	case <-ended:
		t.Fatalf("%v ended", cmd.Args[:2])
	case <-time.After(patience):
		t.Fatalf("%v does not say %q", cmd.Args[:2], up)
	}
}

// windowsImage pushes an index of an image for Windows and one for Linux.
func (o *pool) windowsImage(t *testing.T, repo string, raw ...[]byte) (ref string) {
	t.Helper()
	var layers []v1.Layer
	for _, b := range raw {
		l, err := corpus.Compressed(types.OCILayer, b)
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, l)
	}
	platform := v1.Platform{OS: "windows", Architecture: "amd64", OSVersion: "10.0.26100.1742"}
	image, err := corpus.Image(platform, []string{"cmd"}, layers...)
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.ParseReference(o.registry + "/" + repo)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(tag, corpus.Index(corpus.Entry(image, platform))); err != nil {
		t.Fatal(err)
	}
	return tag.String()
}

func (o *pool) output(t *testing.T, args ...string) ([]byte, error) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 2*patience)
	defer stop()
	var stderr bytes.Buffer
	cmd := o.command(ctx, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, stderr.Bytes())
	}
	return out, err
}

// converted has the pool convert an image.
func (o *pool) converted(t *testing.T, src, dst string) (r convert.Result, err error) {
	t.Helper()
	out, err := o.output(t, "submit", "convert", "--wait", "-o", "json", "--insecure", "--blockcim", "--all-platforms", src, o.registry+"/"+dst)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return r, nil
}

// TestPoolFails has the library fail in a job, and a worker be killed within a call of it:
// nothing is published, and another worker does what that one had begun.
func TestPoolFails(t *testing.T) {
	if testing.Short() {
		t.Skip("waits until a job is another's: long lane")
	}
	p := wine.New(t)
	o := newPool(t, p)
	hung := filepath.Join(t.TempDir(), "hung")
	first := o.worker(t, p, "first", "CIMEMU_HANG=CimSealImage:1", "CIMEMU_HUNG="+wine.Path(hung))
	src := o.windowsImage(t, "app:1", winlayer.Base(), winlayer.Child())
	out, err := o.output(t, "submit", "convert", "--insecure", "--blockcim", "--all-platforms", src, o.registry+"/app:1-cim")
	if err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(hung); err == nil {
			break
		}
		if time.Since(start) > 2*patience {
			t.Fatal("no call hangs")
		}
	}
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	o.worker(t, p, "second")
	id := strings.TrimSpace(string(out))
	if out, err := o.output(t, "jobs", "watch", id); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r, err := o.converted(t, src, "app:1-cim")
	if err != nil {
		t.Fatal(err)
	}
	o.check(t, r)
	o.leftNothing(t)
}

// TestPool has a Linux worker hand the layers of Windows to one under Wine, and put them into
// the index.
func TestPool(t *testing.T) {
	p := wine.New(t)
	o := newPool(t, p)
	o.worker(t, p, "windows")
	r, err := o.converted(t, o.windowsImage(t, "app:1", winlayer.Base(), winlayer.Copied(), winlayer.Child()), "app:1-cim")
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Variants) != 1 || len(r.Variants[0].Layers) != 3 || r.Variants[0].Platform != "windows(10.0.26100.1742+blockcim)/amd64" {
		t.Fatalf("variants: %+v", r.Variants)
	}
	o.check(t, r)
	made := len(split(wine.ReadCalls(t, o.calls)))
	// Another image on the same two layers: one is made.
	if _, err := o.converted(t, o.windowsImage(t, "other:1", winlayer.Base(), winlayer.Copied(), winlayer.Top()), "other:1-cim"); err != nil {
		t.Fatal(err)
	}
	if more := len(split(wine.ReadCalls(t, o.calls))) - made; made != 3 || more != 1 {
		t.Errorf("%d CIMs were written and then %d, want 3 and 1", made, more)
	}
	o.leftNothing(t)
}

// check reads what was pushed as a stranger would.
func (o *pool) check(t *testing.T, r convert.Result) {
	t.Helper()
	tag, err := name.ParseReference(r.Target)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(tag)
	if err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Manifests) != 2 || !slices.Contains(m.Manifests[1].Platform.OSFeatures, cimfs.OSFeature) || m.Manifests[1].Platform.OSVersion != "10.0.26100.1742" {
		t.Fatalf("index: %+v", m.Manifests)
	}
	image, err := index.Image(m.Manifests[1].Digest)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	for i, desc := range manifest.Layers {
		if desc.MediaType != cimfs.MediaTypeLayerZstd || desc.Annotations[cimfs.AnnotationName] != cimfs.LayerName || len(desc.Annotations[cimfs.AnnotationRootHash]) != 64 ||
			desc.Annotations[cimfs.AnnotationWriter] != "cimwriter.dll 10.0.26100.1 on build 26100" {
			t.Errorf("layer %d: %+v", i, desc)
		}
		block := o.blob(t, tag.Context(), desc.Digest.String())
		if !bytes.HasPrefix(block, []byte("EMUCIM1 ")) {
			t.Errorf("layer %d begins %q", i, block[:8])
		}
		if got := digest.FromBytes(block).String(); got != config.RootFS.DiffIDs[i].String() {
			t.Errorf("layer %d has digest %s, and the config says %s", i, got, config.RootFS.DiffIDs[i])
		}
		if tar := o.blob(t, tag.Context(), desc.Annotations[cimfs.AnnotationHives]); !bytes.HasPrefix(tar, []byte("Hives/SYSTEM_BASE")) {
			t.Errorf("hives of layer %d begin %q", i, tar[:20])
		}
	}
}

// blob is one, decompressed.
func (o *pool) blob(t *testing.T, repo name.Repository, dgst string) []byte {
	t.Helper()
	l, err := remote.Layer(repo.Digest(dgst))
	if err != nil {
		t.Fatal(err)
	}
	r, err := l.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	z, err := zstd.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	raw, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (o *pool) leftNothing(t *testing.T) {
	t.Helper()
	left, err := os.ReadDir(o.temp)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		t.Errorf("left by the worker: %s", e.Name())
	}
}
