package registry_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
)

// member is an entry of a tar.
type member struct {
	tar.Header
	body string
}

func file(name, body string) member {
	return member{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(body))}, body}
}

func link(kind byte, name, to string) member {
	return member{tar.Header{Name: name, Typeflag: kind, Linkname: to, Mode: 0o777}, ""}
}

func tarOf(t *testing.T, members ...member) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		if err := w.WriteHeader(&m.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func archiveOf(t *testing.T, members ...member) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "archive.tar")
	write(t, name, tarOf(t, members...))
	return name
}

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, text)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func config(layers ...string) string {
	var ids []string
	for _, l := range layers {
		ids = append(ids, `"`+digest.FromString(l).String()+`"`)
	}
	return `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[` + strings.Join(ids, ",") + `]}}`
}

// oldSave is what docker save wrote before version 25: a shared layer is a link.
func oldSave(t *testing.T) string {
	one, two := tarOf(t, file("etc/one", "1")), tarOf(t, file("etc/two", "2"))
	conf := config(one, two, one)
	return archiveOf(t,
		file("aaa/layer.tar", one), file("aaa/VERSION", "1.0"),
		file("bbb/layer.tar", two),
		link(tar.TypeSymlink, "ccc/layer.tar", "../aaa/layer.tar"),
		file("conf.json", conf), file("other.json", config(two)),
		file("manifest.json", `[
			{"Config":"conf.json","RepoTags":["app:v1","app:latest"],"Layers":["aaa/layer.tar","bbb/layer.tar","ccc/layer.tar"]},
			{"Config":"other.json","RepoTags":["registry.example/other:v2"],"Layers":["bbb/layer.tar"]}]`),
		file("repositories", "{}"))
}

func TestDockerArchive(t *testing.T) {
	name := oldSave(t)
	one, two := tarOf(t, file("etc/one", "1")), tarOf(t, file("etc/two", "2"))
	const layer = "application/vnd.docker.image.rootfs.diff.tar"
	for _, ref := range []string{"app:v1", "app", "docker.io/library/app:v1", "index.docker.io/library/app:latest"} {
		src := mustOpen(t, "docker-archive:"+name+":"+ref)
		m := manifestOf(t, src)
		want := []ocispec.Descriptor{describe(layer, one), describe(layer, two), describe(layer, one)}
		if diff := cmp.Diff(want, m.Layers); diff != "" {
			t.Fatalf("%s: layers (-want +got):\n%s", ref, diff)
		}
		if got := fetch(t, src, m.Layers[2]); got != one {
			t.Errorf("%s: a linked layer has %d bytes, want %d", ref, len(got), len(one))
		}
		if got, want := fetch(t, src, m.Config), config(one, two, one); got != want {
			t.Errorf("%s: config %s, want %s", ref, got, want)
		}
		if got, _ := src.Root(t.Context()); got.MediaType != "application/vnd.docker.distribution.manifest.v2+json" {
			t.Errorf("%s: media type %s", ref, got.MediaType)
		}
	}
	// The made manifest depends on the archive's content only.
	a, _ := mustOpen(t, "docker-archive:"+name+":app:v1").Root(t.Context())
	b, _ := mustOpen(t, "docker-archive:"+name+":app:latest").Root(t.Context())
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("the same image twice:\n%s", diff)
	}
	_, err := registry.Open("docker-archive:"+name, options())
	if !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), `"app:v1", "app:latest", "registry.example/other:v2"`) {
		t.Errorf("two images without a name: %v", err)
	}
	_, err = registry.Open("docker-archive:"+name+":app:v9", options())
	if !errors.Is(err, convert.ErrNotFound) || !strings.Contains(err.Error(), `"app:v1"`) {
		t.Errorf("an absent name: %v", err)
	}
}

func manifestOf(t *testing.T, src convert.Source) ocispec.Manifest {
	t.Helper()
	root, err := src.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	raw := fetch(t, src, root)
	if got := describe(root.MediaType, raw); got.Digest != root.Digest || got.Size != root.Size {
		t.Errorf("the manifest is %v, its descriptor %v", got, root)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal([]byte(raw), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestDockerArchiveCompressedLayers(t *testing.T) {
	layer := tarOf(t, file("etc/one", "1"))
	gz := gzipped(t, layer)
	zstd := "\x28\xb5\x2f\xfd not read here"
	name := archiveOf(t, file("c", config(layer, layer)), file("l1", gz), file("l2", zstd),
		file("manifest.json", `[{"Config":"c","Layers":["l1","./l2"]}]`))
	m := manifestOf(t, mustOpen(t, "docker-archive:"+name))
	want := []ocispec.Descriptor{
		describe("application/vnd.docker.image.rootfs.diff.tar.gzip", gz),
		describe("application/vnd.docker.image.rootfs.diff.tar.zstd", zstd),
	}
	if diff := cmp.Diff(want, m.Layers); diff != "" {
		t.Errorf("layers (-want +got):\n%s", diff)
	}
}

func TestRefusedArchives(t *testing.T) {
	layer := tarOf(t, file("x", "x"))
	whole := tarOf(t, file("c", config(layer)), file("l", layer), file("manifest.json", `[{"Config":"c","Layers":["l"]}]`))
	cutOff := tarOf(t, file("c", config(layer)), file("manifest.json", `[{"Config":"c","Layers":["l"]}]`), file("l", layer))
	cutOff = cutOff[:len(cutOff)-1024-100]
	sparse := file("l", "1\n0\n1\n"+strings.Repeat("\x00", 506)+"x")
	sparse.PAXRecords = map[string]string{"LIT.sparse.major": "1", "LIT.sparse.minor": "0", "LIT.sparse.name": "l", "LIT.sparse.realsize": "1"}
	for name, text := range map[string]string{
		"empty":               "",
		"no tar":              strings.Repeat("not a tar ", 1000),
		"gzip":                gzipped(t, whole),
		"zstd":                "\x28\xb5\x2f\xfd",
		"cut off":             whole[:len(whole)-2048-300],
		"cut off in a layer":  cutOff,
		"no manifest":         tarOf(t, file("c", "{}")),
		"no image":            tarOf(t, file("manifest.json", "[]")),
		"null":                tarOf(t, file("manifest.json", "null")),
		"no JSON":             tarOf(t, file("manifest.json", "x")),
		"no config":           tarOf(t, file("l", layer), file("manifest.json", `[{"Config":"c","Layers":["l"]}]`)),
		"config is no JSON":   tarOf(t, file("c", "x"), file("l", layer), file("manifest.json", `[{"Config":"c","Layers":["l"]}]`)),
		"no layer":            tarOf(t, file("c", config(layer)), file("manifest.json", `[{"Config":"c","Layers":["l"]}]`)),
		"fewer layers":        tarOf(t, file("c", config(layer, layer)), file("l", layer), file("manifest.json", `[{"Config":"c","Layers":["l"]}]`)),
		"no digest":           tarOf(t, file("c", `{"rootfs":{"diff_ids":["../../x"]}}`), file("l", layer), file("manifest.json", `[{"Config":"c","Layers":["l"]}]`)),
		"links in a circle":   tarOf(t, file("c", config(layer)), link(tar.TypeSymlink, "l", "m"), link(tar.TypeLink, "m", "l"), file("manifest.json", `[{"Config":"c","Layers":["l"]}]`)),
		"a link to the host":  tarOf(t, link(tar.TypeSymlink, "c", "/etc/passwd"), file("l", layer), file("manifest.json", `[{"Config":"c","Layers":["l"]}]`)),
		"an xz layer":         tarOf(t, file("c", config(layer)), file("l", "\xfd7zXZ\x00"), file("manifest.json", `[{"Config":"c","Layers":["l"]}]`)),
		"a sparse layer":      strings.ReplaceAll(tarOf(t, file("c", config(layer)), sparse, file("manifest.json", `[{"Config":"c","Layers":["l"]}]`)), "LIT.", "GNU."),
		"a manifest of 5 MiB": tarOf(t, file("manifest.json", strings.Repeat(" ", 5<<20))),
	} {
		path := filepath.Join(t.TempDir(), "archive")
		write(t, path, text)
		_, err := registry.Open("docker-archive:"+path, options())
		if !errors.Is(err, errdefs.ErrInvalidArgument) && !errors.Is(err, convert.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
		if compressed := name == "gzip" || name == "zstd"; compressed && !strings.Contains(err.Error(), "with "+name+", uncompress it first") {
			t.Errorf("%s: %v does not say what to do", name, err)
		}
		if src, err := registry.Open("oci-archive:"+path, options()); err == nil {
			t.Errorf("%s as oci-archive: %v", name, src.Name())
		}
	}
	if _, err := registry.Open("docker-archive:"+filepath.Join(t.TempDir(), "x.tar"), options()); !errors.Is(err, convert.ErrNotFound) {
		t.Errorf("an absent file: %v", err)
	}
	if _, err := registry.Create("oci-archive:x.tar", options()); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("writing an archive: %v", err)
	}
}

// An archive that holds a layout is that layout, with what refers to its images.
func TestOCIArchive(t *testing.T) {
	dir := t.TempDir()
	dst := mustCreate(t, "oci:"+dir+":v1")
	blob := strings.Repeat("layer", 1000)
	push(t, dst, describe("application/octet-stream", blob), blob)
	desc, raw := image(t, dst, "x", nil)
	tagAs(t, dst, "v1", desc, raw)
	sbom, rawSBOM := image(t, dst, "sbom", &desc)
	tagAs(t, dst, "an-sbom", sbom, rawSBOM)

	var members []member
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		b, err := os.ReadFile(path)
		members = append(members, file("./"+filepath.ToSlash(name), string(b)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	name := archiveOf(t, members...)
	for _, ref := range []string{"oci-archive:" + name + ":v1", "docker-archive:" + name + ":v1", "oci-archive:" + name + "@" + desc.Digest.String()} {
		src := mustOpen(t, ref)
		got, err := src.Root(t.Context())
		if diff := cmp.Diff(desc, got); diff != "" || err != nil {
			t.Errorf("%s: root (-want +got):\n%s%v", ref, diff, err)
		}
		if got := fetch(t, src, describe("application/octet-stream", blob)); got != blob {
			t.Errorf("%s: the blob has %d bytes, want %d", ref, len(got), len(blob))
		}
		found, err := src.Referrers(t.Context(), desc.Digest)
		if len(found) != 1 || found[0].Digest != sbom.Digest || err != nil {
			t.Errorf("%s: Referrers = %v, %v", ref, found, err)
		}
		absent := describe("application/octet-stream", "absent")
		if _, err := src.Fetch(t.Context(), absent); !errors.Is(err, convert.ErrNotFound) {
			t.Errorf("%s: an absent blob: %v", ref, err)
		}
		if has, err := src.Has(t.Context(), absent); has || err != nil {
			t.Errorf("%s: Has = %v, %v", ref, has, err)
		}
	}
	// Never more than one byte over what the descriptor says.
	short := describe("application/octet-stream", blob)
	short.Size = 10
	if got := fetch(t, mustOpen(t, "oci-archive:"+name+":v1"), short); len(got) != 11 {
		t.Errorf("got %d bytes of a blob of 10, want 11", len(got))
	}
	if _, err := registry.Open("oci-archive:"+name, options()); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("two images without a tag: %v", err)
	}
}

// What skopeo writes is read here: an OCI archive, and a Docker archive with a
// real layer in it.
func TestSkopeoArchives(t *testing.T) {
	skopeo := needSkopeo(t)
	dir := t.TempDir()
	layer := tarOf(t, file("etc/hostname", "rock\n"))
	gz := gzipped(t, layer)
	dst := mustCreate(t, "oci:"+dir+"/layout:v1")
	push(t, dst, describe(ocispec.MediaTypeImageLayerGzip, gz), gz)
	conf := config(layer)
	push(t, dst, describe(ocispec.MediaTypeImageConfig, conf), conf)
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: describe(ocispec.MediaTypeImageConfig, conf),
		Layers: []ocispec.Descriptor{describe(ocispec.MediaTypeImageLayerGzip, gz)}}
	m.SchemaVersion = 2
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	tagAs(t, dst, "v1", describe(m.MediaType, string(raw)), raw)

	for kind, want := range map[string]ocispec.Descriptor{
		"oci-archive":    describe(ocispec.MediaTypeImageLayerGzip, gz),
		"docker-archive": describe("application/vnd.docker.image.rootfs.diff.tar", layer),
	} {
		ref := fmt.Sprintf("%s:%s/%s.tar:app:v1", kind, dir, kind)
		out, err := exec.Command(skopeo, "--insecure-policy", "copy", "oci:"+dir+"/layout:v1", ref).CombinedOutput()
		if err != nil {
			t.Fatalf("skopeo: %v\n%s", err, out)
		}
		src := mustOpen(t, ref)
		got := manifestOf(t, src)
		if diff := cmp.Diff([]ocispec.Descriptor{want}, got.Layers); diff != "" {
			t.Errorf("%s: layers (-want +got):\n%s", kind, diff)
		}
		if d := digest.FromString(fetch(t, src, got.Layers[0])); d != want.Digest {
			t.Errorf("%s: the layer is %s, want %s", kind, d, want.Digest)
		}
	}
}
