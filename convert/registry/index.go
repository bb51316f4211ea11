package registry

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	indexFile  = "index.json"
	layoutFile = "oci-layout"
	// containerd and Docker write an image's whole name here and its tag alone,
	// or nothing, in image-spec's annotation.
	imageNameAnnotation = "io.containerd.image.name"
)

// layoutIndex is a layout's index.json. Entries and fields that are not ours are
// kept as they are written.
type layoutIndex struct {
	fields  map[string]json.RawMessage
	entries []json.RawMessage
	descs   []ocispec.Descriptor // of entries, one by one
}

func parseLayoutIndex(raw []byte) (*layoutIndex, error) {
	x := &layoutIndex{}
	if err := json.Unmarshal(raw, &x.fields); err != nil {
		return nil, invalid("parse index: %v", err)
	}
	if x.fields == nil {
		return nil, invalid("parse index: it is null")
	}
	m, ok := x.fields["manifests"]
	if !ok {
		return x, nil
	}
	if err := json.Unmarshal(m, &x.entries); err != nil {
		return nil, invalid("parse index: %v", err)
	}
	for _, e := range x.entries {
		var d ocispec.Descriptor
		if err := json.Unmarshal(e, &d); err != nil {
			return nil, invalid("parse index: %v", err)
		}
		if err := checkEntry(d); err != nil {
			return nil, err
		}
		x.descs = append(x.descs, d)
	}
	return x, nil
}

func emptyIndex() *layoutIndex {
	return &layoutIndex{fields: map[string]json.RawMessage{
		"schemaVersion": json.RawMessage("2"),
		"mediaType":     json.RawMessage(`"` + ocispec.MediaTypeImageIndex + `"`),
	}}
}

func (x *layoutIndex) bytes() ([]byte, error) {
	entries, err := json.Marshal(append([]json.RawMessage{}, x.entries...))
	if err != nil {
		return nil, err
	}
	fields := maps.Clone(x.fields)
	fields["manifests"] = entries
	return json.Marshal(fields)
}

// named is the position of the entry for a tag; without a tag, of the one entry
// that has none. -1 is none.
func (x *layoutIndex) named(tag string) (int, error) {
	found := -1
	for i, d := range x.descs {
		if d.Annotations[ocispec.AnnotationRefName] != tag {
			continue
		}
		if found >= 0 && d.Digest != x.descs[found].Digest {
			return 0, invalid("two images are named %q", tag)
		}
		found = i
	}
	return found, nil
}

// choose finds the image to read: the tag's, by either annotation; without a tag
// the one without a name, else the only one.
func (x *layoutIndex) choose(tag string) (ocispec.Descriptor, error) {
	i, err := x.named(tag)
	switch {
	case err == nil && i >= 0:
		return x.descs[i], nil
	case tag == "" && len(x.descs) == 1:
		return x.descs[0], nil
	case tag == "" && len(x.descs) > 1:
		return ocispec.Descriptor{}, invalid("holds several images, name one of %s", x.names())
	case err != nil:
		return ocispec.Descriptor{}, err
	}
	for _, d := range x.descs {
		if sameImage(d.Annotations[imageNameAnnotation], tag) {
			return d, nil
		}
	}
	return ocispec.Descriptor{}, absent("holds no image %q, only %s", tag, x.names())
}

// names lists the tags for an error; a name is outside text, so it is quoted.
func (x *layoutIndex) names() string {
	var names []string
	for _, d := range x.descs {
		name := d.Annotations[imageNameAnnotation]
		if name == "" {
			name = d.Annotations[ocispec.AnnotationRefName]
		}
		names = append(names, fmt.Sprintf("%.80q", name))
	}
	return list(names)
}

const maxListed = 20

func list(names []string) string {
	if len(names) > maxListed {
		return strings.Join(names[:maxListed], ", ") + fmt.Sprintf(" and %d more", len(names)-maxListed)
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// set makes tag name desc, in the place of what it named.
func (x *layoutIndex) set(tag string, desc ocispec.Descriptor) error {
	entry := desc
	entry.Annotations = maps.Clone(desc.Annotations)
	delete(entry.Annotations, ocispec.AnnotationRefName)
	if tag != "" {
		if entry.Annotations == nil {
			entry.Annotations = map[string]string{}
		}
		entry.Annotations[ocispec.AnnotationRefName] = tag
	}
	raw, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	i, err := x.named(tag)
	if err != nil {
		return err
	}
	if i < 0 {
		x.entries, x.descs = append(x.entries, raw), append(x.descs, entry)
		return nil
	}
	x.entries[i], x.descs[i] = raw, entry
	return nil
}
