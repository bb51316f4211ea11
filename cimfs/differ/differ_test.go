package differ_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	diffapi "github.com/containerd/containerd/api/services/diff/v1"
	"github.com/containerd/containerd/v2/core/content"
	contentproxy "github.com/containerd/containerd/v2/core/content/proxy"
	"github.com/containerd/containerd/v2/core/diff"
	diffproxy "github.com/containerd/containerd/v2/core/diff/proxy"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/services/content/contentserver"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/lithify/lithify/cimfs"
	"github.com/lithify/lithify/cimfs/differ"
	"github.com/lithify/lithify/cimfs/vhd"
)

// node is what of a containerd the differ has to do with: the content service, and the client
// of its proxy plugins.
type node struct {
	blobs content.Store
	dir   string // where blobs has them
	// looked gets one when the differ has looked what is being fetched.
	looked chan struct{}
	diff   interface {
		diff.Applier
		diff.Comparer
	}
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{dir: filepath.Join(t.TempDir(), "content"), looked: make(chan struct{}, 1)}
	files, err := local.NewStore(n.dir)
	if err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(filepath.Join(t.TempDir(), "meta.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	n.blobs = metadata.NewDB(db, files, nil).ContentStore()

	ctx, stop := context.WithCancel(context.Background())
	s := grpc.NewServer(grpc.UnaryInterceptor(n.look))
	contentapi.RegisterContentServer(s, contentserver.New(n.blobs))
	conn := served(t, s.Serve)
	ended := make(chan error)
	n.diff = diffproxy.NewDiffApplier(diffapi.NewDiffClient(served(t, func(l net.Listener) error {
		err := differ.Run(ctx, l, &differ.Applier{Content: contentproxy.NewContentStore(conn), Merged: true, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
		ended <- err
		return err
	}))).(interface {
		diff.Applier
		diff.Comparer
	})
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("differ: %v", err)
		}
		s.Stop()
	})
	return n
}

func (n *node) look(ctx context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
	if info.FullMethod == "/containerd.services.content.v1.Content/ListStatuses" {
		select {
		case n.looked <- struct{}{}:
		default:
		}
	}
	return h(ctx, req)
}

// served has serve listen at a socket, and connects to that.
func served(t *testing.T, serve func(net.Listener) error) *grpc.ClientConn {
	t.Helper()
	dir, err := os.MkdirTemp("", "differ") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	go serve(l)
	conn, err := grpc.NewClient("unix:"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func testContext(t *testing.T) context.Context {
	return namespaces.WithNamespace(t.Context(), "k8s.io")
}

// add has a layer of a blob in the store.
func (n *node) add(t *testing.T, mediaType string, blob []byte) ocispec.Descriptor {
	t.Helper()
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(blob), Size: int64(len(blob))}
	desc.Annotations = map[string]string{
		cimfs.AnnotationName:     cimfs.LayerName,
		cimfs.AnnotationRootHash: digest.FromString("what it is sealed with").Encoded(),
	}
	if err := content.WriteBlob(testContext(t), n.blobs, t.Name(), bytes.NewReader(blob), desc); err != nil {
		t.Fatal(err)
	}
	return desc
}

// layerIn is a mount of the snapshotter's, for a layer.
func layerIn(dir string, options ...string) []mount.Mount {
	return []mount.Mount{{
		Type:    "BlockCIM",
		Source:  filepath.Join(dir, cimfs.LayerFile, cimfs.LayerName),
		Options: append([]string{"parentCimPaths=[]", "blockCIMType=file", "enable_layer_integrity"}, options...),
	}}
}

func block(sectors int) []byte {
	return bytes.Repeat([]byte("sector: "), sectors*vhd.Size/8)
}

func compressed(t *testing.T, b []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	return z.EncodeAll(b, nil)
}

func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestApply(t *testing.T) {
	n := newNode(t)
	b := block(5000)
	want := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(b), Size: int64(len(b))}
	zst := n.add(t, cimfs.MediaTypeLayerZstd, compressed(t, b))
	for name, desc := range map[string]ocispec.Descriptor{"zstd": zst, "raw": n.add(t, cimfs.MediaTypeLayer, b)} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for range 2 { // containerd asks again where it has had no answer
				got, err := n.diff.Apply(testContext(t), desc, layerIn(dir), diff.WithSyncFs(true))
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("applied (-want +got):\n%s", diff)
				}
			}
			if diff := cmp.Diff([]string{"layer.vhd"}, names(t, dir)); diff != "" {
				t.Errorf("in the snapshot (-want +got):\n%s", diff)
			}
			if got, err := os.ReadFile(filepath.Join(dir, "layer.vhd")); err != nil || !bytes.Equal(got, b) {
				t.Errorf("layer.vhd has %d bytes, %v; want the block's %d", len(got), err, len(b))
			}
		})
	}
	t.Run("footer", func(t *testing.T) {
		dir := t.TempDir()
		got, err := n.diff.Apply(testContext(t), zst, layerIn(dir, "append_vhd_footer"))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("applied (-want +got):\n%s", diff)
		}
		f, err := os.OpenFile(filepath.Join(dir, "layer.vhd"), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if footer, err := vhd.Read(f); err != nil || footer.DiskSize != want.Size {
			t.Errorf("footer %+v, %v", footer, err)
		}
	})
}

// topmost is a layer whose image brings a merged CIM.
func (n *node) topmost(t *testing.T, merged digest.Digest) ocispec.Descriptor {
	t.Helper()
	d := n.add(t, cimfs.MediaTypeLayerZstd, compressed(t, block(30)))
	d.Annotations[cimfs.AnnotationMerged] = merged.String()
	d.Annotations[cimfs.AnnotationMergedRootHash] = digest.FromString("what it is sealed with").Encoded()
	return d
}

// What joins an image's layers gets its place beside the topmost, also where it comes later.
func TestMerged(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	b := block(7)
	blob := compressed(t, b)
	layer := n.topmost(t, digest.FromBytes(blob))
	fetched := make(chan error, 1)
	w, err := n.blobs.Writer(testContext(t), content.WithRef("unknown-"+digest.FromBytes(blob).String()))
	if err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	go func() {
		<-n.looked
		_, err := w.Write(blob)
		fetched <- errors.Join(err, w.Commit(ctx, int64(len(blob)), digest.FromBytes(blob)), w.Close())
	}()
	dir := t.TempDir()
	if _, err := n.diff.Apply(testContext(t), layer, layerIn(dir, "append_vhd_footer")); err != nil {
		t.Fatal(err)
	}
	if err := <-fetched; err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "merged.vhd"))
	if err != nil || len(got) != len(b)+vhd.Size || !bytes.HasPrefix(got, b) {
		t.Errorf("merged.vhd has %d bytes, %v; want the block's %d and a footer", len(got), err, len(b))
	}
	t.Run("none", func(t *testing.T) {
		dir := t.TempDir()
		if _, err := n.diff.Apply(testContext(t), n.topmost(t, digest.FromString("elsewhere")), layerIn(dir)); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"layer.vhd"}, names(t, dir)); diff != "" {
			t.Errorf("in the snapshot (-want +got):\n%s", diff)
		}
	})
}

// damage has the store's disk lose bits.
func (n *node) damage(t *testing.T, desc ocispec.Descriptor, blob []byte) {
	t.Helper()
	file := filepath.Join(n.dir, "blobs", "sha256", desc.Digest.Encoded())
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, blob, 0); err != nil {
		t.Fatal(err)
	}
}

func TestRefused(t *testing.T) {
	n := newNode(t)
	good := n.add(t, cimfs.MediaTypeLayer, block(10))
	zst := compressed(t, block(999))
	cut := n.add(t, cimfs.MediaTypeLayer, block(12))
	n.damage(t, cut, block(8))
	other := n.add(t, cimfs.MediaTypeLayerZstd, compressed(t, block(20)))
	n.damage(t, other, compressed(t, block(21)))
	annotated := func(key, value string) ocispec.Descriptor {
		d := n.add(t, cimfs.MediaTypeLayerZstd, compressed(t, block(11)))
		d.Annotations[key] = value
		return d
	}
	missing := good
	missing.Digest = digest.FromString("elsewhere")
	for name, c := range map[string]struct {
		desc   ocispec.Descriptor
		mounts func(dir string) []mount.Mount
		is     func(error) bool // of kinds that gRPC has; nil for another
	}{
		"a tar":            {desc: n.add(t, ocispec.MediaTypeImageLayerGzip, []byte("tar")), is: errdefs.IsNotImplemented},
		"truncated":        {desc: n.add(t, cimfs.MediaTypeLayerZstd, zst[:len(zst)-9])},
		"no zstd":          {desc: n.add(t, cimfs.MediaTypeLayerZstd, []byte("zstd"))},
		"cut in the store": {desc: cut, is: errdefs.IsDataLoss},
		"another digest":   {desc: other, is: errdefs.IsDataLoss},
		"missing":          {desc: missing, is: errdefs.IsNotFound},
		"emulated":         {desc: n.add(t, cimfs.MediaTypeLayer, append([]byte("EMUCIM1 "), block(1)...)), is: errdefs.IsInvalidArgument},
		"another name":     {desc: annotated(cimfs.AnnotationName, "merged.cim"), is: errdefs.IsInvalidArgument},
		"merged emulated":  {desc: n.topmost(t, n.add(t, cimfs.MediaTypeMergedZstd, compressed(t, append([]byte("EMUCIM1 "), block(1)...))).Digest), is: errdefs.IsInvalidArgument},
		"merged no zstd":   {desc: n.topmost(t, good.Digest)},
		"merged no digest": {desc: n.topmost(t, "sha256:x"), is: errdefs.IsInvalidArgument},
		"no root hash":     {desc: annotated(cimfs.AnnotationRootHash, ""), is: errdefs.IsInvalidArgument},
		"half a sector": {desc: n.add(t, cimfs.MediaTypeLayer, block(1)[:100]), is: errdefs.IsInvalidArgument,
			mounts: func(dir string) []mount.Mount { return layerIn(dir, "append_vhd_footer") }},
		"a container": {desc: good, is: errdefs.IsInvalidArgument,
			mounts: func(dir string) []mount.Mount {
				return []mount.Mount{{Type: "BlockCIM", Source: dir, Options: []string{"blockCIMType=file"}}}
			}},
		"another snapshotter": {desc: good, is: errdefs.IsInvalidArgument,
			mounts: func(dir string) []mount.Mount {
				return []mount.Mount{{Type: "CimFS", Source: filepath.Join(dir, "layer.vhd", "layer.cim")}}
			}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			mounts := layerIn(dir)
			if c.mounts != nil {
				mounts = c.mounts(dir)
			}
			_, err := n.diff.Apply(testContext(t), c.desc, mounts)
			if err == nil || c.is != nil && !c.is(err) || c.is == nil && errdefs.IsNotImplemented(err) {
				t.Errorf("error %v", err)
			}
			if left := names(t, dir); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
	t.Run("another namespace", func(t *testing.T) {
		if _, err := n.diff.Apply(namespaces.WithNamespace(t.Context(), "other"), good, layerIn(t.TempDir())); !errdefs.IsNotFound(err) {
			t.Errorf("error %v, want that it is not found", err)
		}
	})
	t.Run("compare", func(t *testing.T) {
		if _, err := n.diff.Compare(testContext(t), nil, nil); !errdefs.IsNotImplemented(err) {
			t.Errorf("error %v, want that it is not implemented", err)
		}
	})
}
