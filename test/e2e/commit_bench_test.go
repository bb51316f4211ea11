//go:build linux

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/rootfs"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/test/corpus"
)

// BenchmarkCommit commits a container of 1 GB in turn by lithify, which also publishes
// the EROFS variant, and by the method of nerdctl (v2, pkg/imgutil/commit): containerd
// compares the container's files with those of its image, compresses what differs, and
// pushes. Reported is how many times longer that takes, by medians; the targets are 5
// for 5 changed files and 2 for 20,000.
//
//	go test ./test/e2e -run '^$' -bench Commit -benchtime 5x -test.root -v
//
// Both push to one registry that has the base's layers. lithify's ledger has them too, as
// after the first commit of any container on them.
func BenchmarkCommit(b *testing.B) {
	var layers []v1.Layer
	for _, name := range []string{"debian", "go", "node_modules"} {
		l, err := corpus.Open(b.Context(), name)
		if err != nil {
			b.Skipf("no layer %s: %v", name, err)
		}
		layers = append(layers, l.Registry(corpus.Gzip))
	}
	image, err := corpus.Image(corpus.Linux, []string{"/bin/sh", "-c", "exec sleep 1000000"}, layers...)
	if err != nil {
		b.Fatal(err)
	}
	d, registry := startContainerd(b), startRegistry(b)
	base := registry + "/base:1"
	push(b, image, base)
	d.pullFor(base, "overlayfs", "")
	key := ledgerKey(b)
	for _, files := range []int{5, 20_000} {
		c := d.start(b, fmt.Sprint("bench", files), base, "overlayfs", "")
		c.does(b, fmt.Sprintf("find / -xdev -type f ! -path '*bin/*' ! -name '*.so*' | sort | head -n %d | while read -r f; do echo changed >> \"$f\"; done", files))
		ours := func() {
			c.mustCommit(b, registry+"/base:ours", "--ledger-repo", "lithify/ledger", "--ledger-key", key, "--replace")
		}
		ours() // the ledger knows the base from now on
		b.Run(fmt.Sprint("files=", files), func(b *testing.B) {
			n := newNerdctl(b, c)
			var here, there []time.Duration
			for b.Loop() {
				c.does(b, "date +%N > /tmp/now") // neither finds its own layer in the registry
				here = append(here, timed(ours))
				there = append(there, timed(func() { n.commit(b, registry+"/base:theirs") }))
			}
			b.ReportMetric(median(here).Seconds(), "lithify-s")
			b.ReportMetric(median(there).Seconds(), "nerdctl-s")
			b.ReportMetric(median(there).Seconds()/median(here).Seconds(), "times")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func timed(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}

func median(ds []time.Duration) time.Duration {
	slices.Sort(ds)
	return ds[len(ds)/2]
}

// nerdctl commits and pushes as the program of that name does.
type nerdctl struct {
	client *client.Client
	c      client.Container
}

func newNerdctl(b *testing.B, c *container) *nerdctl {
	b.Helper()
	cl, err := client.New(c.address, client.WithDefaultNamespace(namespaces.Default))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cl.Close() })
	found, err := cl.LoadContainer(b.Context(), c.id)
	if err != nil {
		b.Fatal(err)
	}
	return &nerdctl{cl, found}
}

func (n *nerdctl) commit(b *testing.B, ref string) {
	b.Helper()
	ctx, done, err := n.client.WithLease(namespaces.WithNamespace(b.Context(), namespaces.Default))
	if err != nil {
		b.Fatal(err)
	}
	defer done(context.WithoutCancel(ctx))
	desc, err := n.make(ctx)
	if err != nil {
		b.Fatal(err)
	}
	resolver := docker.NewResolver(docker.ResolverOptions{Hosts: docker.ConfigureDefaultRegistries(docker.WithPlainHTTP(docker.MatchAllHosts))})
	if err := n.client.Push(ctx, ref, desc, client.WithResolver(resolver)); err != nil {
		b.Fatal(err)
	}
}

// make compares while the container is paused, and writes config and manifest.
func (n *nerdctl) make(ctx context.Context) (desc ocispec.Descriptor, err error) {
	task, err := n.c.Task(ctx, nil)
	if err != nil {
		return desc, err
	}
	if err := task.Pause(ctx); err != nil {
		return desc, err
	}
	defer task.Resume(context.WithoutCancel(ctx))
	info, err := n.c.Info(ctx)
	if err != nil {
		return desc, err
	}
	layer, err := rootfs.CreateDiff(ctx, info.SnapshotKey, n.client.SnapshotService(info.Snapshotter), n.client.DiffService())
	if err != nil {
		return desc, err
	}
	cs := n.client.ContentStore()
	li, err := cs.Info(ctx, layer.Digest)
	if err != nil {
		return desc, err
	}
	img, err := n.client.GetImage(ctx, info.Image)
	if err != nil {
		return desc, err
	}
	m, err := images.Manifest(ctx, cs, img.Target(), img.Platform())
	if err != nil {
		return desc, err
	}
	raw, err := content.ReadBlob(ctx, cs, m.Config)
	if err != nil {
		return desc, err
	}
	var config ocispec.Image
	if err := json.Unmarshal(raw, &config); err != nil {
		return desc, err
	}
	config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.Digest(li.Labels["containerd.io/uncompressed"]))
	m.Layers = append(m.Layers, layer)
	if m.Config, err = write(ctx, cs, m.Config.MediaType, config, nil); err != nil {
		return desc, err
	}
	labels := map[string]string{"containerd.io/gc.ref.content.0": m.Config.Digest.String()}
	for i, l := range m.Layers {
		labels[fmt.Sprint("containerd.io/gc.ref.content.", i+1)] = l.Digest.String()
	}
	return write(ctx, cs, m.MediaType, m, labels)
}

func write(ctx context.Context, cs content.Store, mediaType string, v any, labels map[string]string) (ocispec.Descriptor, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	return desc, content.WriteBlob(ctx, cs, desc.Digest.String(), bytes.NewReader(raw), desc, content.WithLabels(labels))
}
