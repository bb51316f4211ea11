//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/lithify/lithify/test/corpus"
)

// contestant is one converter on one blob.
type contestant struct {
	name string
	args []string
	env  []string
	dir  func(out string) error // prepares an empty directory for a run
	// diffID is the field of its output that must be the layer's DiffID; 0: none.
	diffID int
}

// mkfsOptions are containerd's, with what its makers recommend for speed and
// reproducible bytes.
var mkfsOptions = []string{"-T0", "--mkfs-time", "--sort=none"}

const (
	mkfs   = "mkfs.erofs --tar=f --aufs --quiet -Enoinline_data -b4096 -T0 --mkfs-time --sort=none "
	inline = "mkfs.erofs --tar=f --aufs --quiet -b4096 -T0 --mkfs-time --sort=none "
)

// The stages of each layer, and who runs in them. All write to the file "blob" or
// to a content store in their working directory.
func (b *bench) contests(l *corpus.Layer) map[string][]contestant {
	ours, in, gz := quote(b.ours), quote(l.Path(corpus.Tar)), quote(l.Path(corpus.Gzip))
	return map[string][]contestant{
		"tar": b.possible(
			// The pipe computes no digest, so neither does its rival.
			contestant{name: "lithify, no digests", args: []string{b.ours, "write", "erofs", l.Path(corpus.Tar), "blob"}},
			b.shell("mkfs", "cat "+in+" | "+mkfs+"blob"),
			b.lithify("erofs", l.Path(corpus.Tar)),
			// Here is the pipe with both digests that lithify has, by the same SHA-256
			// (that of coreutils does not use the processor's).
			b.shell("mkfs+sha256", ours+" digest "+in+" & cat "+in+" | "+mkfs+"blob; "+ours+" digest blob; wait"),
		),
		"gzip": b.possible(
			b.lithify("erofs", l.Path(corpus.Gzip)),
			// What `lithify convert` does unless it is told otherwise; nobody else compares.
			contestant{name: "lithify, --verify=full", args: []string{b.ours, "verify", "erofs", l.Path(corpus.Gzip), "blob"}, diffID: 3},
			b.containerd(l, corpus.Gzip, "application/vnd.oci.image.layer.v1.tar+gzip"),
			b.shell("gzip|mkfs", "gzip -dc "+quote(l.Path(corpus.Gzip))+" | "+mkfs+"blob"),
			contestant{name: "gunzip", args: []string{b.ours, "gunzip", l.Path(corpus.Gzip)}},
		),
		// Nothing but the decoder is the least that any job of the layer takes.
		"to tar": b.possible(
			contestant{name: "lithify", args: []string{b.ours, "stream", fmt.Sprint(l.Blobs[corpus.Tar].Size), l.Path(corpus.Gzip)}, diffID: 3},
			contestant{name: "gunzip", args: []string{b.ours, "gunzip", l.Path(corpus.Gzip)}},
		),
		"zstd": b.possible(
			b.lithify("erofs", l.Path(corpus.Zstd)),
			b.containerd(l, corpus.Zstd, "application/vnd.oci.image.layer.v1.tar+zstd"),
		),
		"+zstd": b.possible(
			b.lithify("erofs+zstd", l.Path(corpus.Tar)),
			// The same image as one frame, by the level that ours is compared with.
			b.shell("zstd -3", ours+" write erofs "+in+" image >/dev/null; zstd -q -3 image -o blob; rm image"),
			// What any such job of the layer computes: its tar, the level, and three digests.
			b.shell("parts", "gzip -dc "+gz+" >tar; "+ours+" digest tar; "+ours+" digest tar; zstd -q -3 tar -o blob; "+ours+" digest blob; rm tar"),
		),
		// EROFS's own ways to a smaller image, which lithify has mkfs.erofs do.
		"small": b.possible(
			b.lithify("erofs", l.Path(corpus.Tar)),
			b.shell("mkfs, tails inline", "cat "+in+" | "+inline+"blob"),
			b.shell("mkfs, lz4", "cat "+in+" | "+inline+"-zlz4 blob"),
			b.shell("mkfs, lz4hc", "cat "+in+" | "+inline+"-zlz4hc -C65536 blob"),
			b.shell("mkfs, zstd", "cat "+in+" | "+inline+"-zzstd -C65536 blob"),
		),
	}
}

var stages = []string{"tar", "gzip", "to tar", "zstd", "+zstd", "small"}

func (b *bench) lithify(profile, in string) contestant {
	return contestant{name: "lithify", args: []string{b.ours, "convert", profile, in, "blob"}, diffID: 3}
}

func (b *bench) shell(name, script string) contestant {
	if !b.has["mkfs.erofs"] || !b.has["gzip"] {
		return contestant{}
	}
	return contestant{name: name, args: []string{"sh", "-c", "set -e; " + script}}
}

// containerd runs its converter on a content store that holds the blob. It takes
// unpigz, as most hosts have it, where igzip is installed too.
func (b *bench) containerd(l *corpus.Layer, f corpus.Format, mediaType string) contestant {
	if !b.has["ctrdconvert"] || !b.has["mkfs.erofs"] || !b.has["unpigz"] {
		return contestant{}
	}
	blob := l.Blobs[f]
	return contestant{
		name: "containerd",
		args: append([]string{"ctrdconvert", "store", mediaType, blob.Digest.String(), fmt.Sprint(blob.Size)}, mkfsOptions...),
		env:  []string{"CONTAINERD_DISABLE_IGZIP=1"},
		dir: func(out string) error {
			blobs := filepath.Join(out, "store", "blobs", blob.Digest.Algorithm().String())
			if err := os.MkdirAll(blobs, 0o755); err != nil {
				return err
			}
			return os.Symlink(l.Path(f), filepath.Join(blobs, blob.Digest.Encoded()))
		},
	}
}

// possible leaves out what this machine lacks the programs for.
func (b *bench) possible(all ...contestant) (here []contestant) {
	for _, c := range all {
		if c.name != "" {
			here = append(here, c)
		}
	}
	return here
}

func quote(path string) string { return "'" + path + "'" }
