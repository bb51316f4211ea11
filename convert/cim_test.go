package convert_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/cimfs"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/test/wine/winlayer"
)

// TestBlockCIMElsewhere asks for layers of Windows one after the other, each with the one below
// it, and publishes nothing where nobody makes them. test/wine has somebody make them.
func TestBlockCIMElsewhere(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("here they are made")
	}
	h := newHub(t)
	dst := h.target("app:1")
	tag(t, dst, manifest(t, dst, "windows", "amd64", windowsBlob(t, winlayer.Base()), windowsBlob(t, winlayer.Child())))
	public, private := keys(t)
	var asked []convert.LayerTask
	opts := convert.Options{AllPlatforms: true, BlockCIM: true, Ledger: h.ledger(private, public),
		Elsewhere: func(_ context.Context, missing []convert.LayerTask) (map[digest.Digest]erofs.Needs, error) {
			asked = append(asked, missing...)
			return nil, nil
		}}
	_, err := convert.Image(t.Context(), h.source("app:1"), h.target("app:1-cim"), opts)
	if !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), "lithify submit convert --blockcim") {
		t.Errorf("got %v, want an error that says where they are made", err)
	}
	if len(asked) != 1 || asked[0].Profile != convert.ProfileBlockCIM || asked[0].Below != "" || !asked[0].Bottom || asked[0].Writer != cimfs.WriterVersion {
		t.Errorf("asked for %+v, want the base alone", asked)
	}
	if _, err := h.target("app:1-cim").Head(t.Context()); !errors.Is(err, convert.ErrNotFound) {
		t.Errorf("the tag: %v, want none", err)
	}
}

// TestBlockCIMBelow asks for a layer above one of which the source has no blob, or is said to: the
// registry's hives of that one would be in the result.
func TestBlockCIMBelow(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("here it is made")
	}
	h := newHub(t)
	public, private := keys(t)
	base, child := windowsBlob(t, winlayer.Base()), windowsBlob(t, winlayer.Child())
	theirs, mine := h.target("theirs:1"), h.target("mine:1")
	tag(t, theirs, manifest(t, theirs, "windows", "amd64", base))
	tag(t, mine, manifest(t, mine, "windows", "amd64", child))
	below := convert.LayerJob{Source: digest.FromBytes(base.bytes), MediaType: base.mediaType, Profile: convert.ProfileBlockCIM, Bottom: true, Writer: cimfs.WriterVersion}
	made := descOf(cimfs.MediaTypeLayerZstd, []byte("CIM"))
	push(t, theirs, made, []byte("CIM"))
	ledger := h.ledger(private, public)
	err := convert.PutCIM(t.Context(), ledger, theirs, below, &convert.CIMLayer{Block: &cimfs.Block{Layer: &cimfs.Layer{}}, Blob: made, Hives: made})
	if err != nil {
		t.Fatal(err)
	}
	task := convert.LayerTask{Size: int64(len(child.bytes)), LayerJob: convert.LayerJob{Source: digest.FromBytes(child.bytes), MediaType: child.mediaType, Profile: convert.ProfileBlockCIM, Below: below.Key(), Writer: cimfs.WriterVersion}}
	opts := convert.Options{Ledger: ledger}
	w := without{h.source("mine:1"), below.Source}
	if _, err := convert.Layer(t.Context(), w, task, opts); !errdefs.IsPermissionDenied(err) {
		t.Errorf("the base is another's: %v, want a denied permission", err)
	}
	if _, err := convert.Layer(t.Context(), w.Source, task, opts); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "hives of the layers below") {
		t.Errorf("the base is there: %v, want to come as far as its hives, which are none", err)
	}
}

// without is a source that lacks a blob. (go-containerregistry's registry has each blob in all
// repositories.)
type without struct {
	convert.Source
	blob digest.Digest
}

func (w without) Has(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	if d.Digest == w.blob {
		return false, nil
	}
	return w.Source.Has(ctx, d)
}

// TestWindowsPassesThrough has no --blockcim.
func TestWindowsPassesThrough(t *testing.T) {
	h := newHub(t)
	dst := h.target("app:1")
	tag(t, dst, manifest(t, dst, "windows", "amd64", windowsBlob(t, winlayer.Base())))
	_, err := convert.Image(t.Context(), h.source("app:1"), h.target("app:2"), convert.Options{AllPlatforms: true})
	if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "--blockcim") {
		t.Errorf("got %v, want a refusal that names the flag", err)
	}
}

func TestPlanCIM(t *testing.T) {
	h := newHub(t)
	dst := h.target("app:1")
	tag(t, dst, manifest(t, dst, "windows", "amd64", windowsBlob(t, winlayer.Base()), windowsBlob(t, winlayer.Child())))
	calls := 0
	images, err := convert.PlanCIM(t.Context(), h.source("app:1"), func(digest.Digest, cimfs.Call) error { calls++; return nil })
	if err != nil {
		t.Fatal(err)
	}
	if len(images) != 1 || len(images[0].Layers) != 2 || images[0].Err() != nil || images[0].Layers[0].Calls+images[0].Layers[1].Calls != int64(calls) {
		t.Errorf("%+v after %d calls", images, calls)
	}
}

func windowsBlob(t *testing.T, tar []byte) blob {
	t.Helper()
	return blob{"application/vnd.oci.image.layer.v1.tar+gzip", gzipped(t, tar), digest.FromBytes(tar)}
}
