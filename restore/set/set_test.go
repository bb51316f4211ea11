package set_test

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/restore/set"
)

func layout(t *testing.T, ref string) convert.Target {
	t.Helper()
	dst, err := registry.Create(ref, registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return dst
}

// put stores a manifest in dst, and gives it as a container of a set.
func put(t *testing.T, dst convert.Target, name, content string) set.Container {
	t.Helper()
	raw, err := json.Marshal(ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Annotations: map[string]string{"x": content}})
	if err != nil {
		t.Fatal(err)
	}
	desc := convert.Describe(ocispec.MediaTypeImageManifest, raw)
	if err := dst.PutManifest(t.Context(), desc, raw); err != nil {
		t.Fatal(err)
	}
	return set.Container{Name: name, Image: desc}
}

func TestGenerations(t *testing.T) {
	ref := "oci:" + t.TempDir() + ":saved"
	var before []digest.Digest
	for generation := 1; generation <= 104; generation++ {
		dst := layout(t, ref)
		web := put(t, dst, "web", time.Now().String())
		if _, err := set.Push(t.Context(), dst, time.Now(), []set.Container{web, put(t, dst, "db", "same")}); err != nil {
			t.Fatal(err)
		}
		src, err := registry.Open(ref, registry.Options{})
		if err != nil {
			t.Fatal(err)
		}
		s, err := set.Open(t.Context(), src)
		if err != nil {
			t.Fatal(err)
		}
		if s.Generation != generation || !slices.Equal(s.Ancestors(), before[:min(len(before), 101)]) || len(s.Containers) != 2 || s.Containers[0].Name != "web" || s.Containers[0].Image.Digest != web.Image.Digest {
			t.Errorf("generation %d: %+v, want %s before it", generation, s, before)
		}
		before = append([]digest.Digest{s.Descriptor.Digest}, before...)
	}

	// Of two who began with the same set one fails.
	one, two := layout(t, ref), layout(t, ref)
	for _, dst := range []convert.Target{one, two} {
		if _, err := dst.Root(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := set.Push(t.Context(), one, time.Now(), []set.Container{put(t, one, "web", "one")}); err != nil {
		t.Fatal(err)
	}
	if _, err := set.Push(t.Context(), two, time.Now(), []set.Container{put(t, two, "web", "two")}); !errors.Is(err, convert.ErrTagMoved) {
		t.Errorf("the second of two: %v, want that the tag was moved", err)
	}
}

// A generation after the last number there is would be none that anybody reads.
func TestLastGeneration(t *testing.T) {
	ref := "oci:" + t.TempDir() + ":saved"
	dst := layout(t, ref)
	if _, err := set.Push(t.Context(), dst, time.Now(), []set.Container{put(t, dst, "web", "x")}); err != nil {
		t.Fatal(err)
	}
	s, err := set.Open(t.Context(), layout(t, ref))
	if err != nil {
		t.Fatal(err)
	}
	var index ocispec.Index
	if _, err := convert.FetchDocument(t.Context(), dst, s.Descriptor, &index); err != nil {
		t.Fatal(err)
	}
	index.Annotations[set.AnnotationGeneration] = strconv.Itoa(math.MaxInt)
	raw, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	desc := convert.Describe(ocispec.MediaTypeImageIndex, raw)
	if err := errors.Join(dst.PutManifest(t.Context(), desc, raw), dst.Tag(t.Context(), desc, raw, s.Descriptor.Digest)); err != nil {
		t.Fatal(err)
	}
	dst = layout(t, ref)
	if _, err := set.Push(t.Context(), dst, time.Now(), s.Containers); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "another tag") {
		t.Errorf("got %v, want it refused", err)
	}
	if now, err := layout(t, ref).Root(t.Context()); err != nil || now.Digest != desc.Digest {
		t.Errorf("the tag names %s, %v, want what it named", now.Digest, err)
	}
}

// What comes from a registry may be anything.
func TestOpenRefuses(t *testing.T) {
	member := func(name string) ocispec.Descriptor {
		d := convert.Describe(ocispec.MediaTypeImageManifest, []byte(name))
		d.Annotations = map[string]string{set.AnnotationContainer: name}
		return d
	}
	good := func() ocispec.Index {
		return ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, ArtifactType: set.ArtifactType, Manifests: []ocispec.Descriptor{member("web"), member("db")},
			Annotations: map[string]string{set.AnnotationGeneration: "1", ocispec.AnnotationCreated: "2026-11-27T00:00:00Z"}}
	}
	for want, change := range map[string]func(*ocispec.Index){
		"":                    func(*ocispec.Index) {},
		"artifact type":       func(i *ocispec.Index) { i.ArtifactType = "" },
		`generation is "0"`:   func(i *ocispec.Index) { i.Annotations[set.AnnotationGeneration] = "0" },
		`generation is "x"`:   func(i *ocispec.Index) { i.Annotations[set.AnnotationGeneration] = "x" },
		`before it is "../x"`: func(i *ocispec.Index) { i.Annotations[set.AnnotationPrevious] = "../x" },
		"of the 1 sets":       func(i *ocispec.Index) { i.Annotations[set.AnnotationEarlier] = "../x" },
		"of the 101 sets": func(i *ocispec.Index) {
			i.Annotations[set.AnnotationEarlier] = strings.TrimSuffix(strings.Repeat(digest.FromString("x").String()+",", 101), ",")
		},
		"created at":         func(i *ocispec.Index) { i.Annotations[ocispec.AnnotationCreated] = "yesterday" },
		"0 checkpoints":      func(i *ocispec.Index) { i.Manifests = nil },
		"65 checkpoints":     func(i *ocispec.Index) { i.Manifests = make([]ocispec.Descriptor, 65) },
		`"../db" is no name`: func(i *ocispec.Index) { i.Manifests[1] = member("../db") },
		"two containers web": func(i *ocispec.Index) { i.Manifests[1] = member("web") },
		"no manifest":        func(i *ocispec.Index) { i.Manifests[1].MediaType = ocispec.MediaTypeImageIndex },
	} {
		ref := "oci:" + t.TempDir() + ":x"
		dst, index := layout(t, ref), good()
		change(&index)
		raw, err := json.Marshal(index)
		if err != nil {
			t.Fatal(err)
		}
		desc := convert.Describe(ocispec.MediaTypeImageIndex, raw)
		if err := errors.Join(dst.PutManifest(t.Context(), desc, raw), dst.Tag(t.Context(), desc, raw, "")); err != nil {
			t.Fatal(err)
		}
		_, err = set.Open(t.Context(), layout(t, ref))
		if refused := errors.As(err, new(*convert.RefusedError)); (want == "") != (err == nil) || err != nil && (!refused || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got %v", want, err)
		}
	}
}
