package convert_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/lithify/lithify/convert"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A source pinned to a digest must not bring its tag back to it.
func TestPinnedSourceDoesNotMoveItsTagBack(t *testing.T) {
	h := newHub(t)
	old := manifest(t, h.target("app:1"), "linux", "amd64", gz(t, file{name: "a", body: "old"}))
	newer := manifest(t, h.target("app:1"), "linux", "amd64", gz(t, file{name: "a", body: "new"}))
	tag(t, h.target("app:1"), newer)
	for _, inPlace := range []bool{false, true} {
		opts := convert.Options{SourceTag: h.target("app:1").Name(), InPlace: inPlace, TempDir: t.TempDir()}
		_, err := convert.Image(t.Context(), h.source("app@"+old.Digest.String()), h.target("app:1"), opts)
		var conflict *convert.ConflictError
		if !errors.As(err, &conflict) || !convert.Permanent(err) {
			t.Errorf("in place %v: got %v, want a ConflictError", inPlace, err)
		}
	}
	if got := must(h.target("app:1").Head(t.Context()))(t).Digest; got != newer.Digest {
		t.Errorf("the tag was moved back to %s", got)
	}
}

// An attempt whose worker died behind the last step is made again.
func TestInPlaceAttemptIsRepeatable(t *testing.T) {
	h := newHub(t)
	image := manifest(t, h.target("app:1"), "linux", "amd64", gz(t, file{name: "a", body: "a"}))
	tag(t, h.target("app:1"), image)
	opts := convert.Options{SourceTag: h.target("app:1").Name(), InPlace: true}
	first := convertTo(t, h.source("app@"+image.Digest.String()), h.target("app:1"), opts)
	again := convertTo(t, h.source("app@"+image.Digest.String()), h.target("app:1"), opts)
	if !again.Unchanged || again.Descriptor.Digest != first.Descriptor.Digest {
		t.Errorf("second attempt: %+v", again)
	}
}

// A variant whose source is not in the index stays while its platform is not
// converted.
func TestVariantsOfOtherPlatformsStay(t *testing.T) {
	h := newHub(t)
	odd(t, h.target("app:1"))
	arm := convertTo(t, h.source("app:1"), h.target("arm:1"), convert.Options{Replace: true, Platforms: []ocispec.Platform{{OS: "linux", Architecture: "arm64"}}})
	variant := arm.Descriptor
	variant.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm64", OSFeatures: []string{"erofs"}}
	tar := manifest(t, h.target("arm:mix"), "linux", "amd64", gz(t, file{name: "a", body: "a"}))
	tar.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	tag(t, h.target("arm:mix"), putManifest(t, h.target("arm:mix"), ocispec.MediaTypeImageIndex, asJSON(t, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{tar, variant},
	})))
	r := convertTo(t, h.source("arm:mix"), h.target("arm:out"), amd64)
	index := parse[ocispec.Index](t, read(t, h.source("arm:out"), r.Descriptor))
	if len(index.Manifests) != 3 || index.Manifests[1].Digest != variant.Digest {
		t.Errorf("%d entries, want the tar, the arm64 variant and the new one", len(index.Manifests))
	}
}

// What only the overwritten index held is kept, though lithify wrote that index.
func TestReplaceInPlaceKeepsTheOriginals(t *testing.T) {
	h := newHub(t)
	tag(t, h.target("app:1"), manifest(t, h.target("app:1"), "linux", "amd64", gz(t, file{name: "a", body: "a"})))
	both := convertTo(t, h.source("app:1"), h.target("app:2"), convert.Options{})
	r := convertTo(t, h.source("app:2"), h.target("app:2"), convert.Options{Replace: true, InPlace: true})
	if r.Kept != both.Descriptor.Digest {
		t.Errorf("kept %q, want %s", r.Kept, both.Descriptor.Digest)
	}
}

func TestEachPlatformMustBeThere(t *testing.T) {
	h := newHub(t)
	odd(t, h.target("app:1"))
	opts := convert.Options{TempDir: t.TempDir(), Platforms: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "s390x"}}}
	_, err := convert.Image(t.Context(), h.source("app:1"), h.target("app:2"), opts)
	if err == nil || !strings.Contains(err.Error(), "s390x") {
		t.Errorf("got %v, want an error that names s390x", err)
	}
}
