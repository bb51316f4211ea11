package lint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	"github.com/lithify/lithify/erofs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var platformRules = []Rule{
	{ID: "index-os-features", Level: Must, Section: "6", Text: "the index's entry of a manifest with EROFS layers has erofs in os.features",
		check: func(im *image, say say) {
			if im.index != nil && (im.Descriptor.Platform == nil || !slices.Contains(im.Descriptor.Platform.OSFeatures, erofs.OSFeature)) {
				say(nil, "the index's entry of it lacks erofs in os.features")
			}
		}},
	{ID: "config-os-features", Level: Must, Section: "5.4", Text: "the config has erofs in os.features",
		check: func(im *image, say say) {
			if !slices.Contains(im.config.OSFeatures, erofs.OSFeature) {
				say(nil, "its config %s has the os.features %q", im.Config.Digest, im.config.OSFeatures)
			}
		}},
	{ID: "tar-first", Level: Should, Section: "6", Text: "in an index the tar manifest of a platform comes before that with EROFS layers",
		check: tarFirst},
	{ID: "rootfs-type", Level: Must, Section: "5.1", Text: "rootfs.type is layers, where there is a rootfs",
		check: func(im *image, say say) {
			if r := im.config.RootFS; r != nil && r.Type != "layers" {
				say(nil, "its config has the rootfs.type %q", r.Type)
			}
		}},
}

func tarFirst(im *image, say say) {
	if im.index == nil {
		return
	}
	bare := func(p ocispec.Platform) string { p.OSFeatures = nil; return platforms.FormatAll(p) }
	seen := false
	for _, m := range im.all {
		if m.Descriptor.Digest == im.Descriptor.Digest {
			seen = true
		} else if seen && m.Platform != nil && !m.Inner && bare(*m.Platform) == bare(*im.Platform) && !m.IsEROFS() {
			say(nil, "the index has it before %s for the same platform", m.Descriptor.Digest)
		}
	}
}

var manifestRules = []Rule{
	{ID: "legacy-dialect", Level: Note, Section: "2.1", Text: "layers are of the draft's media types and have roles, not of those that containerd up to 2.4 reads",
		check: func(im *image, say say) {
			if im.legacy {
				say(nil, "its layers are of the dialect that containerd up to 2.4 and nerdctl read, %s without roles, which the draft does not have; lithify migrate --to spec names them anew", im.mediaTypes())
			}
		}},
	{ID: "layer-media-type", Level: Must, Section: "4", Text: "each layer is an EROFS image, a chunk index, or has the role device",
		check: func(im *image, say say) {
			for _, l := range im.layers {
				ok := l.role() == erofs.RoleDevice || l.isIndex() || l.isEROFS() && (im.legacy || !l.isLegacy())
				if !ok {
					say(l, "its media type is %q", l.MediaType)
				}
			}
		}},
	{ID: "one-family", Level: Should, Section: "4", Text: "no tar layers beside EROFS layers, but those with the role device",
		check: func(im *image, say say) {
			for _, l := range im.layers {
				if images.IsLayerType(l.MediaType) && !l.isEROFS() && l.role() != erofs.RoleDevice {
					say(l, "it is of type %s, among layers of EROFS", l.MediaType)
				}
			}
		}},
	{ID: "annotation-form", Level: Must, Section: "2.3", Text: "values of annotations are of the draft's grammar: digests, decimal numbers, ranges, media types, roles",
		check: annotationForm},
	{ID: "unknown-annotation", Level: May, Section: "10.1", Text: "annotations org.erofs.* that the draft does not define are for people",
		check: func(im *image, say say) {
			for _, l := range im.layers {
				for k := range l.Annotations {
					if strings.HasPrefix(k, "org.erofs.") && grammar[k] == nil {
						say(l, "the draft has no annotation %s", k)
					}
				}
			}
		}},
	{ID: "uncompressed-digest", Level: Must, Section: "8.1, 7", Text: "each +zstd layer has the annotation org.erofs.uncompressed-digest",
		check: func(im *image, say say) {
			for _, l := range im.layers {
				if l.isEROFS() && !im.legacy && l.isZstd() && l.Annotations[erofs.AnnotationUncompressedDigest] == "" {
					say(l, "it has no annotation %s", erofs.AnnotationUncompressedDigest)
				}
			}
		}},
}

func (im *image) mediaTypes() string {
	var list []string
	for _, l := range im.layers {
		if l.isLegacy() && !slices.Contains(list, l.MediaType) {
			list = append(list, l.MediaType)
		}
	}
	return strings.Join(list, ", ")
}

var roleRules = []Rule{
	{ID: "last-layer", Level: Must, Section: "3.8", Text: "the last layer is an EROFS image without a role, or an overlay-lower",
		check: func(im *image, say say) {
			if len(im.layers) == 0 {
				say(nil, "it has no layer")
			} else if l := im.layers[len(im.layers)-1]; !l.isLower() {
				say(l, "it is the last, of type %s and role %q", l.MediaType, l.role())
			}
		}},
	{ID: "lower-role", Level: Must, Section: "8.1, 1", Text: "an EROFS image below another one of a stack has the role overlay-lower",
		check: func(im *image, say say) {
			for i, l := range im.layers {
				if !im.legacy && l.isEROFS() && l.role() == "" && slices.ContainsFunc(im.layers[i+1:], (*layer).isLower) {
					say(l, "another one lies above it, and it has no role")
				}
			}
		}},
	{ID: "overlay-lower-type", Level: Must, Section: "2.4", Text: "only EROFS images have the role overlay-lower",
		check: onlyEROFS(erofs.RoleOverlayLower)},
	{ID: "overlay-data-type", Level: Must, Section: "2.4", Text: "only EROFS images have the role overlay-data",
		check: onlyEROFS(erofs.RoleOverlayData)},
	{ID: "device-consumer", Level: Must, Section: "2.4", Text: "after a device comes an EROFS image that has it as a device",
		check: deviceConsumer},
	{ID: "overlay-data-consumer", Level: Must, Section: "2.4", Text: "after an overlay-data comes an EROFS image that shows its files by redirects",
		check: func(im *image, say say) {
			for i, l := range im.layers {
				if l.role() != erofs.RoleOverlayData {
					continue
				}
				by := im.consumer(i)
				if by == nil {
					say(l, "no EROFS image comes after it that could show its files")
				} else if by.files != nil && !by.files.redirects {
					say(l, "layer %d, which follows, has no file with trusted.overlay.redirect", by.number+1)
				}
			}
		}},
	{ID: "device-tag", Level: Should, Section: "8.1, 12", Text: "the tag of a slot of the device table is the device's digest in hex",
		check: deviceTag},
}

func onlyEROFS(role string) func(*image, say) {
	return func(im *image, say say) {
		for _, l := range im.layers {
			if l.role() == role && !l.isEROFS() {
				say(l, "it has this role and is of type %s", l.MediaType)
			}
		}
	}
}

// consumer is the image that layer i, a device or an overlay-data, is for; nil: none.
func (im *image) consumer(i int) *layer {
	for _, l := range im.layers[i+1:] {
		if l.isEROFS() && l.role() != erofs.RoleDevice && (l.role() != erofs.RoleOverlayData || im.layers[i].role() == erofs.RoleDevice) {
			return l
		}
	}
	return nil
}

// devices are those that a layer has.
func (im *image) devices(of *layer) (list []*layer) {
	for i, l := range im.layers {
		if l.role() == erofs.RoleDevice && im.consumer(i) == of {
			list = append(list, l)
		}
	}
	return list
}

func deviceConsumer(im *image, say say) {
	for i, l := range im.layers {
		if l.role() != erofs.RoleDevice {
			continue
		}
		by := im.consumer(i)
		if by == nil {
			say(l, "no EROFS image comes after it")
		} else if by.super != nil && by.super.Devices < len(im.devices(by)) {
			say(l, "layer %d, which follows, has a table of %d devices, and %d come before it", by.number+1, by.super.Devices, len(im.devices(by)))
		}
	}
	for _, l := range im.layers {
		if l.isLower() && l.super != nil && l.super.Devices > len(im.devices(l)) {
			say(l, "it has a table of %d devices, and %d come before it", l.super.Devices, len(im.devices(l)))
		}
	}
}

func deviceTag(im *image, say say) {
	for _, l := range im.layers {
		for i, d := range im.devices(l) {
			if i >= len(l.tags) {
				break
			}
			if l.tags[i] != erofs.TagOf(d.Digest) {
				say(l, "device %d has the tag %q, and layer %d is %s", i+1, l.tags[i], d.number+1, d.Digest)
			}
		}
	}
}

var diffIDRules = []Rule{
	{ID: "diff-ids", Level: Should, Section: "5.2", Text: "the config has rootfs.diff_ids, for readers that do not know the annotation",
		check: func(im *image, say say) {
			if im.config.RootFS == nil || len(im.config.RootFS.DiffIDs) == 0 {
				say(nil, "its config %s has none", im.Config.Digest)
			}
		}},
	{ID: "diff-ids-count", Level: Must, Section: "5.2", Text: "rootfs.diff_ids has one for each layer, where a layer has no org.erofs.uncompressed-digest",
		check: func(im *image, say say) {
			lacks := slices.ContainsFunc(im.layers, func(l *layer) bool { return l.Annotations[erofs.AnnotationUncompressedDigest] == "" })
			if n := len(im.DiffIDs); lacks && n != len(im.layers) {
				say(nil, "its config has %d for %d layers", n, len(im.layers))
			}
		}},
	{ID: "diff-ids-agree", Level: Must, Section: "2.3", Text: "org.erofs.uncompressed-digest is the layer's DiffID",
		check: func(im *image, say say) {
			for _, l := range im.layers {
				if note := l.Annotations[erofs.AnnotationUncompressedDigest]; note != "" && l.diffID != "" && note != l.diffID.String() {
					say(l, "the annotation says %s and the config %s", note, l.diffID)
				}
			}
		}},
	{ID: "diff-id", Level: Must, Section: "5.2", Text: "the DiffID is the digest of a raw blob, and of what a compressed one holds",
		check: func(im *image, say say) {
			for _, l := range im.layers {
				id := l.diffID.String()
				if note := l.Annotations[erofs.AnnotationUncompressedDigest]; note != "" {
					id = note
				}
				if l.holds != "" && id != "" && id != l.holds.String() {
					say(l, "it holds %s, and its DiffID is %s", l.holds, id)
				}
			}
		}},
	{ID: "blob-digest", Level: Must, Section: "3.1", Text: "the descriptor's digest is that of the whole blob",
		check: func(im *image, say say) {
			for _, l := range im.layers {
				if l.damaged != nil {
					say(l, "%v", l.damaged)
				}
			}
		}},
}

var unseenRules = []Rule{
	{ID: "index-for-lazy-loading", Level: Must, Section: "8.1, 2", Text: "a layer that is meant for lazy loading has a chunk index", Unseen: "it is about what a layer is meant for"},
	{ID: "stable-times", Level: Should, Section: "8.3", Text: "times of the file system are the same each time it is made", Unseen: "it takes two images that were made of the same"},
	{ID: "stable-index", Level: Should, Section: "8.3", Text: "the chunk index of the same content is the same", Unseen: "it takes two images that were made of the same"},
	{ID: "stable-salt", Level: Should, Section: "8.3", Text: "the salt of dm-verity is the same each time, where the root digest is to be", Unseen: "it takes two images that were made of the same"},
}

// grammar is what values of the draft's annotations are like (2.3).
var grammar = map[string]func(string) error{
	erofs.AnnotationChunkIndexRange:     isRange,
	erofs.AnnotationChunkIndexDigest:    isDigest,
	erofs.AnnotationChunkIndexTarget:    isDigest,
	erofs.AnnotationChunkIndexMediaType: isMediaType,
	erofs.AnnotationUncompressedDigest:  isDigest,
	erofs.AnnotationVerityHashOffset:    isUint,
	erofs.AnnotationVerityBlockSize:     isUint,
	erofs.AnnotationVerityRootDigest:    isDigest,
	erofs.AnnotationRole:                isRole,
}

func annotationForm(im *image, say say) {
	for _, l := range im.layers {
		for _, k := range sortedKeys(grammar) {
			if v, ok := l.Annotations[k]; ok {
				if err := grammar[k](v); err != nil {
					say(l, "%s: %q %v", k, v, err)
				}
			}
		}
	}
}

func isRange(v string) error {
	from, to, bounded := strings.Cut(v, ":")
	if isUint(from) != nil || bounded && isUint(to) != nil {
		return fmt.Errorf("is no offset[:end]")
	}
	return nil
}
