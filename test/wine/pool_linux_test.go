package wine_test

import (
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
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"github.com/lithify/lithify/cimfs"
	"github.com/lithify/lithify/convert"
	layerjob "github.com/lithify/lithify/jobs/layer"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/test/corpus"
	"github.com/lithify/lithify/test/wine"
	"github.com/lithify/lithify/test/wine/winlayer"
)

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
	start(t, o.command(t.Context(), "serve", "--dir", filepath.Join(dir, "queue"), "--slots", "2"), "pool up")
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
func (o *pool) worker(t *testing.T, p *wine.Prefix, name string, env ...string) (kill func()) {
	t.Helper()
	exe := p.Program(t, "lithify-worker", worker, emulated)
	env = append(env, "CIMEMU_LOG="+wine.Path(o.calls), "LITHIFY_CONTEXT="+wine.Path(filepath.Join(o.home, "lithify", "context.json")))
	cmd := p.Command(t.Context(), exe, env, "--name", name, "--slots", "1", "--temp-dir", wine.Path(o.temp), "--ledger-key", wine.Path(filepath.Join(o.home, "queue", "ledger.pem")))
	return start(t, cmd, "host checked")
}

// emulated has programs take blocks of the emulated library for block CIMs.
const emulated = "-tags=emulated"

// windowsVersion is that of the images here.
var windowsVersion = v1.Platform{OS: "windows", Architecture: "amd64", OSVersion: "10.0.26100.1742"}

// image is of layers, for a platform. Its command makes it another one.
func image(t *testing.T, platform v1.Platform, command string, raw ...[]byte) v1.Image {
	t.Helper()
	var layers []v1.Layer
	for _, b := range raw {
		l, err := corpus.Compressed(types.OCILayer, b)
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, l)
	}
	made, err := corpus.Image(platform, []string{command}, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// push pushes an index.
func (o *pool) push(t *testing.T, repo string, entries ...mutate.IndexAddendum) (ref string) {
	t.Helper()
	tag, err := name.ParseReference(o.registry + "/" + repo)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(tag, corpus.Index(entries...)); err != nil {
		t.Fatal(err)
	}
	return tag.String()
}

// windowsImage pushes an index of an image for Windows.
func (o *pool) windowsImage(t *testing.T, repo string, raw ...[]byte) (ref string) {
	t.Helper()
	return o.push(t, repo, corpus.Entry(image(t, windowsVersion, repo, raw...), windowsVersion))
}

// mixedImage pushes what a build for many platforms makes: images for Linux and Windows and for a
// system that nobody converts, and an attestation.
func (o *pool) mixedImage(t *testing.T, repo string, raw ...[]byte) (ref string) {
	t.Helper()
	var odd bytes.Buffer
	if err := corpus.WriteOdd(&odd); err != nil {
		t.Fatal(err)
	}
	plan9 := v1.Platform{OS: "plan9", Architecture: "amd64"}
	linux := image(t, corpus.Linux, repo, odd.Bytes())
	attestation, err := corpus.Attestation(linux)
	if err != nil {
		t.Fatal(err)
	}
	return o.push(t, repo, corpus.Entry(linux, corpus.Linux), corpus.Entry(image(t, windowsVersion, repo, raw...), windowsVersion),
		corpus.Entry(image(t, plan9, repo, odd.Bytes()), plan9), attestation)
}

func (o *pool) output(t *testing.T, args ...string) ([]byte, error) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 5*patience)
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
func (o *pool) converted(t *testing.T, src, dst string, flags ...string) (r convert.Result, err error) {
	t.Helper()
	out, err := o.output(t, slices.Concat([]string{"submit", "convert", "--wait", "-o", "json"}, toCIM, flags, []string{src, o.registry + "/" + dst})...)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return r, nil
}

// toCIM are flags of convert.
var toCIM = []string{"--insecure", "--blockcim", "--all-platforms"}

// TestPoolFails has the library fail in a job, and a worker be killed within a call of it:
// nothing is published, and another worker does what that one had begun.
func TestPoolFails(t *testing.T) {
	if testing.Short() {
		t.Skip("waits until a job is another's: long lane")
	}
	p := wine.New(t)
	o := newPool(t, p)
	hung := filepath.Join(t.TempDir(), "hung")
	kill := o.worker(t, p, "first", "CIMEMU_HANG=CimSealImage:1", "CIMEMU_HUNG="+wine.Path(hung))
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
	kill()
	o.worker(t, p, "second")
	id := strings.TrimSpace(string(out))
	if out, err := o.output(t, "jobs", "watch", id); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r, err := o.converted(t, src, "app:1-cim")
	if err != nil {
		t.Fatal(err)
	}
	o.check(t, r, r.Variants[0])
	o.leftNothing(t)
}

// TestPool has workers of both systems convert an index of both: layers of Windows become block
// CIMs by the one under Wine, and are put into the index on Linux.
func TestPool(t *testing.T) {
	t.Parallel()
	p := wine.New(t)
	o := newPool(t, p)
	o.worker(t, p, "windows")
	src := o.mixedImage(t, "app:1", winlayer.Base(), winlayer.Child(), winlayer.Copied())
	r, err := o.converted(t, src, "app-cim:1", "--blockcim-merged")
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Variants) != 2 || r.Variants[0].Platform != "linux(+erofs)/amd64" || r.Variants[1].Platform != "windows(10.0.26100.1742+blockcim)/amd64" || len(r.Variants[1].Layers) != 3 {
		t.Fatalf("variants: %+v", r.Variants)
	}
	if len(r.Skipped) != 1 || r.Skipped[0].Platform != "plan9/amd64" {
		t.Errorf("skipped: %+v", r.Skipped)
	}
	o.checkOriginals(t, src, r)
	o.check(t, r, r.Variants[1])
	o.routed(t)
	made := o.made(t)
	if made != 4 || r.Variants[1].Merged == nil {
		t.Errorf("%d CIMs were written, want 3 and one that joins them: %+v", made, r.Variants[1].Merged)
	}
	// Another image on the same two layers: one is made.
	if _, err := o.converted(t, o.windowsImage(t, "other:1", winlayer.Base(), winlayer.Child(), winlayer.Top()), "other:1-cim"); err != nil {
		t.Fatal(err)
	}
	// Another image on the same three: none is.
	twin, err := o.converted(t, o.windowsImage(t, "twin:1", winlayer.Base(), winlayer.Child(), winlayer.Copied()), "twin:1-cim", "--blockcim-merged")
	if err != nil {
		t.Fatal(err)
	}
	if more := o.made(t) - made; more != 1 {
		t.Errorf("two more images took %d CIMs, want 1", more)
	}
	o.check(t, twin, twin.Variants[0])
	if diff := cmp.Diff(r.Variants[1].Merged, twin.Variants[0].Merged); diff != "" {
		t.Errorf("two images of the same layers (-one +other):\n%s", diff)
	}
	o.leftNothing(t)
	t.Run("here", func(t *testing.T) { o.testHere(t, p, src, r.Variants[1]) })
	t.Run("verify", func(t *testing.T) { o.testVerify(t, p, r) })
}

// testHere has lithify on Windows make without a pool what the pool has made, and fail at its end.
func (o *pool) testHere(t *testing.T, p *wine.Prefix, src string, want convert.Variant) {
	convertTo := func(dst string, env ...string) (r convert.Result, err error) {
		args := slices.Concat([]string{"convert", "-o", "json", "--blockcim-merged", "--temp-dir", wine.Path(o.temp)}, toCIM, []string{src, o.registry + "/" + dst})
		cmd := p.Command(t.Context(), p.Program(t, "lithify", lithify, emulated), env, args...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return r, fmt.Errorf("%w: %s", err, stderr.Bytes())
		}
		return r, json.Unmarshal(out, &r)
	}
	r, err := convertTo("here:1")
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Variants[1].Digest; got != want.Digest {
		t.Errorf("without a pool it is %s, in one %s", got, want.Digest)
	}
	if _, err := convertTo("failed:1", "CIMEMU_FAIL=CimAddFsToMergedImage2:2=0x80070017"); err == nil || !strings.Contains(err.Error(), "merging up to layer") {
		t.Errorf("error %v, want that of the merge", err)
	}
	tag, err := name.ParseReference(o.registry + "/failed:1")
	if err != nil {
		t.Fatal(err)
	}
	if d, err := remote.Head(tag); err == nil {
		t.Errorf("published: %+v", d)
	}
	o.leftNothing(t)
}

// testVerify has containerd's own code make the block CIMs of an image once more, and finds the
// variant of another image.
func (o *pool) testVerify(t *testing.T, p *wine.Prefix, r convert.Result) {
	verify := func(ref string) (string, error) {
		cmd := p.Command(t.Context(), p.Program(t, "lithify", lithify, emulated), nil, "verify", "--unpack", "--insecure", "--root", wine.Path(filepath.Join(t.TempDir(), "root")), ref)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	want := r.Variants[1].Platform + " " + r.Variants[1].Digest.String() + ": 3 layers made again, same"
	if out, err := verify(r.Target); err != nil || !strings.Contains(out, want) {
		t.Errorf("%v: %s; want %q", err, out, want)
	}
	tag, err := name.ParseReference(r.Target)
	if err != nil {
		t.Fatal(err)
	}
	variant, err := remote.Image(tag.Context().Digest(r.Variants[1].Digest.String()))
	if err != nil {
		t.Fatal(err)
	}
	other := image(t, windowsVersion, "other", winlayer.Base(), winlayer.Child(), winlayer.Top())
	is, err := other.Digest()
	if err != nil {
		t.Fatal(err)
	}
	claimed := mutate.Annotations(variant, map[string]string{convert.AnnotationSource: is.String()}).(v1.Image)
	out, err := verify(o.push(t, "claimed:1", corpus.Entry(other, windowsVersion), corpus.Entry(claimed, windowsVersion)))
	if err == nil || !strings.Contains(out, "3 differences") || !strings.Contains(out, "layer 3") || !strings.Contains(out, "merged CIM") {
		t.Errorf("the variant of another image: %v: %s", err, out)
	}
	// A base in place of what joins the layers, which a node with --merged would mount.
	manifest, err := variant.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	m := manifest.DeepCopy()
	top, joins := len(m.Layers)-2, len(m.Layers)-1
	m.Layers[joins].Digest, m.Layers[joins].Size = m.Layers[0].Digest, m.Layers[0].Size
	forged := edited{variant, m}
	original, err := remote.Image(tag.Context().Digest(m.Annotations[convert.AnnotationSource]))
	if err != nil {
		t.Fatal(err)
	}
	m.Layers[top].Annotations[cimfs.AnnotationMerged] = m.Layers[0].Digest.String()
	out, err = verify(o.push(t, "forged:1", corpus.Entry(original, windowsVersion), corpus.Entry(forged, windowsVersion)))
	if err == nil || !strings.Contains(out, "1 differences") || !strings.Contains(out, "merged CIM") {
		t.Errorf("a base that is to join the layers: %v: %s", err, out)
	}
}

// edited is an image with another manifest of its blobs.
type edited struct {
	v1.Image
	manifest *v1.Manifest
}

func (e edited) Manifest() (*v1.Manifest, error) { return e.manifest, nil }
func (e edited) RawManifest() ([]byte, error)    { return json.Marshal(e.manifest) }
func (e edited) Digest() (v1.Hash, error)        { return partial.Digest(e) }
func (e edited) Size() (int64, error)            { return partial.Size(e) }

// made counts the CIMs that the worker on Windows has written.
func (o *pool) made(t *testing.T) int { return len(split(wine.ReadCalls(t, o.calls))) }

// routed checks that layers of Windows were the job of the worker there.
func (o *pool) routed(t *testing.T) {
	t.Helper()
	out, err := o.output(t, "jobs", "list", "--kind", "layer", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var list []queue.Status
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatal(err)
	}
	by := map[string]int{}
	for _, st := range list {
		if st.Job.Class == layerjob.BlockCIM {
			by[st.Worker]++
		}
	}
	if diff := cmp.Diff(map[string]int{"windows": 4}, by); diff != "" || len(list) != 5 {
		t.Errorf("%d jobs, of those of Windows by worker (-want +got):\n%s", len(list), diff)
	}
}

// checkOriginals checks that the index has what that of src has, byte for byte, before the rest.
func (o *pool) checkOriginals(t *testing.T, src string, r convert.Result) {
	t.Helper()
	was, is := o.index(t, src), o.index(t, r.Target)
	if n := len(was.Manifests); len(is.Manifests) != n+len(r.Variants) {
		t.Fatalf("%d manifests became %d, want %d more", n, len(is.Manifests), len(r.Variants))
	}
	if diff := cmp.Diff(was.Manifests, is.Manifests[:len(was.Manifests)]); diff != "" {
		t.Errorf("originals (-want +got):\n%s", diff)
	}
	tag, err := name.ParseReference(r.Target)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range was.Manifests {
		image, err := remote.Image(tag.Context().Digest(d.Digest.String()))
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := image.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		for _, blob := range append(manifest.Layers, manifest.Config) {
			if got := digest.FromBytes(o.raw(t, tag.Context(), blob.Digest.String())).String(); got != blob.Digest.String() {
				t.Errorf("%v: %s has digest %s", d.Platform, blob.Digest, got)
			}
		}
	}
}

func (o *pool) index(t *testing.T, ref string) *v1.IndexManifest {
	t.Helper()
	tag, err := name.ParseReference(ref)
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
	return m
}

// check reads a variant of Windows that was pushed as a stranger would.
func (o *pool) check(t *testing.T, r convert.Result, v convert.Variant) {
	t.Helper()
	tag, err := name.ParseReference(r.Target)
	if err != nil {
		t.Fatal(err)
	}
	all := o.index(t, r.Target).Manifests
	entry := all[slices.IndexFunc(all, func(d v1.Descriptor) bool { return d.Digest.String() == v.Digest.String() })]
	if !slices.Contains(entry.Platform.OSFeatures, cimfs.OSFeature) || entry.Platform.OSVersion != windowsVersion.OSVersion {
		t.Fatalf("entry: %+v", entry)
	}
	image, err := remote.Image(tag.Context().Digest(v.Digest.String()))
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
	layers := manifest.Layers
	if v.Merged != nil {
		o.checkMerged(t, tag.Context(), layers)
		layers = layers[:len(layers)-1]
	}
	if len(layers) != len(config.RootFS.DiffIDs) {
		t.Fatalf("%d layers, and the config has %d", len(layers), len(config.RootFS.DiffIDs))
	}
	for i, desc := range layers {
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

// checkMerged checks that what joins the layers is the last, is what the topmost says, and names
// each of them, the topmost first.
func (o *pool) checkMerged(t *testing.T, repo name.Repository, layers []v1.Descriptor) {
	t.Helper()
	merged, top := layers[len(layers)-1], layers[len(layers)-2]
	if merged.MediaType != cimfs.MediaTypeMergedZstd || merged.Annotations[cimfs.AnnotationName] != cimfs.MergedName ||
		top.Annotations[cimfs.AnnotationMerged] != merged.Digest.String() || top.Annotations[cimfs.AnnotationMergedRootHash] != merged.Annotations[cimfs.AnnotationRootHash] {
		t.Errorf("merged %+v, topmost %+v", merged, top)
	}
	block := o.blob(t, repo, merged.Digest.String())
	// The stand-in has in it what it was made of, as the hash of all of a block behind its header.
	var want, got []string
	for _, desc := range slices.Backward(layers[:len(layers)-1]) {
		want = append(want, desc.Annotations[cimfs.AnnotationRootHash])
	}
	for _, m := range regexp.MustCompile(`"CimAddFsToMergedImage2".*"hash":"([0-9a-f]{64})"`).FindAllSubmatch(block, -1) {
		got = append(got, string(m[1]))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("merged (-want +got):\n%s", diff)
	}
}

// raw is a blob.
func (o *pool) raw(t *testing.T, repo name.Repository, dgst string) []byte {
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
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// blob is one, decompressed.
func (o *pool) blob(t *testing.T, repo name.Repository, dgst string) []byte {
	t.Helper()
	z, err := zstd.NewReader(bytes.NewReader(o.raw(t, repo, dgst)))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
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
