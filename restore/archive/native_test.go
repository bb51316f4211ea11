package archive_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/lithify/lithify/restore/archive"
)

// nativeCheckpoint is what ctr containers checkpoint --task --rw --image makes.
func nativeCheckpoint(t *testing.T, images []member, spec string) archive.Native {
	t.Helper()
	for i := range images {
		images[i].name = strings.TrimPrefix(images[i].name, "checkpoint/")
	}
	text := func(b []byte, n protowire.Number, v string) []byte {
		return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), v)
	}
	blobs := map[digest.Digest][]byte{}
	n := archive.Native{Fetch: func(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
		b, ok := blobs[d.Digest]
		if !ok {
			return nil, fmt.Errorf("%s: %w", d.Digest, errdefs.ErrNotFound)
		}
		return io.NopCloser(bytes.NewReader(b)), nil
	}}
	for _, b := range []struct {
		mediaType string
		body      []byte
	}{
		{"application/vnd.containerd.container.criu.checkpoint.criu.tar", makeTar(t, images...)},
		{"application/vnd.oci.image.layer.v1.tar+gzip", gzipped(t, layerOf(t))},
		{"application/vnd.containerd.container.checkpoint.config.v1+proto", text(text(nil, 1, "types.containerd.io/opencontainers/runtime-spec/1/Spec"), 2, spec)},
		{"application/vnd.containerd.container.checkpoint.runtime.options+proto", []byte{8, 1}},
	} {
		d := digest.FromBytes(b.body)
		blobs[d] = b.body
		n.Index.Manifests = append(n.Index.Manifests, ocispec.Descriptor{MediaType: b.mediaType, Digest: d, Size: int64(len(b.body))})
	}
	n.Index.Manifests = append(n.Index.Manifests, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: baseDigest})
	n.Index.Annotations = map[string]string{"io.containerd.checkpoint.runtime": "io.containerd.runc.v2", "org.opencontainers.image.ref.name": "docker.io/library/busybox:1.36"}
	return n
}

func TestNative(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ck")
	got, err := nativeCheckpoint(t, tinyImages(), `{"linux":{"cgroupsPath":"/default/n1"}}`).Read(t.Context(), dir, archive.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	want := &archive.Checkpoint{
		Format: archive.Containerd, ID: "n1", Name: "n1", Runtime: "runc", Checkpointed: someTime, Spec: []byte(`{"linux":{"cgroupsPath":"/default/n1"}}`),
		Base: archive.Base{Name: "docker.io/library/busybox:1.36", Digest: baseDigest},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if images, err := archive.Validate(dir); err != nil || images.Pages != 2 {
		t.Errorf("images %+v, %v", images, err)
	}
	checkLayer(t, layer(t, dir, got), true)
	var b bytes.Buffer
	if err := archive.Write(t.Context(), &b, dir, got, archive.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	again, err := archive.Read(t.Context(), &b, filepath.Join(t.TempDir(), "ck"), archive.Limits{})
	if err != nil || again.Base != want.Base {
		t.Errorf("as an archive: %+v, %v", again, err)
	}
}

func TestNativeRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(*archive.Native)
		more  member
		want  string
	}{
		"a link":            {more: member{name: "descriptors.json", kind: '2', link: "/etc/shadow"}, want: "symbolic link"},
		"a file outside":    {more: member{name: "../x"}, want: "leads elsewhere"},
		"an absolute name":  {more: member{name: "/etc/x"}, want: "leads elsewhere"},
		"another file":      {more: member{name: "run.sh"}, want: "CRIU makes no file"},
		"two specs":         {spoil: func(n *archive.Native) { n.Index.Manifests = append(n.Index.Manifests, n.Index.Manifests...) }, want: "two of it"},
		"no spec":           {spoil: func(n *archive.Native) { n.Index.Manifests = nil }, want: "spec.dump"},
		"a spec of garbage": {spoil: func(n *archive.Native) { spoilSpec(n, "\xff") }, want: "no message with a spec"},
		"an empty spec":     {spoil: func(n *archive.Native) { spoilSpec(n, "") }, want: "no message with a spec"},
		"too large a spec":  {spoil: func(n *archive.Native) { spoilSpec(n, strings.Repeat("x", 17<<20)) }, want: "bytes of metadata"},
	} {
		t.Run(name, func(t *testing.T) {
			images := tinyImages()
			if tt.more.name != "" {
				images = append(images, tt.more)
			}
			n := nativeCheckpoint(t, images, `{}`)
			if tt.spoil != nil {
				tt.spoil(&n)
			}
			above := t.TempDir()
			_, err := n.Read(t.Context(), filepath.Join(above, "ck"), archive.Limits{})
			checkRefused(t, err, tt.want)
			if left := tree(t, above); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// spoilSpec has the spec's blob be another.
func spoilSpec(n *archive.Native, body string) {
	i := slices.IndexFunc(n.Index.Manifests, func(d ocispec.Descriptor) bool { return strings.HasSuffix(d.MediaType, ".config.v1+proto") })
	spec, fetch := n.Index.Manifests[i].Digest, n.Fetch
	n.Fetch = func(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
		if d.Digest == spec {
			return io.NopCloser(strings.NewReader(body)), nil
		}
		return fetch(ctx, d)
	}
}
