package convert_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/proof"
	"github.com/lithify/lithify/erofs"
)

func twoLayers(t *testing.T, h *hub, name string) {
	t.Helper()
	dst := h.target(name)
	tag(t, dst, manifest(t, dst, "linux", "amd64",
		gz(t, file{name: "etc/", mode: 0o700}, file{name: "etc/passwd", body: strings.Repeat("root:x:0:0\n", 1000)}, file{name: "gone"}),
		gz(t, file{name: "etc/new", body: "new"}, file{name: "link => etc/passwd"}, file{name: ".wh.gone"})))
}

// TestVerified says in the result, and in the ledger, by whom each layer was verified.
func TestVerified(t *testing.T) {
	for _, profile := range []erofs.Profile{erofs.ProfileRaw, erofs.ProfileZstd, erofs.ProfileTar} {
		h := newHub(t)
		twoLayers(t, h, "app:1")
		public, private := keys(t)
		opts := convert.Options{Profile: profile, AllPlatforms: true, Ledger: h.ledger(private, public)}
		none := opts
		none.Verify = convert.VerifyNone
		r := convertTo(t, h.source("app:1"), h.target("app:none"), none)
		if v := r.Variants[0]; v.Files != 0 || v.Layers[0].Verified != nil || v.Layers[1].Verified != nil {
			t.Errorf("%s: nobody was to look: %+v", profile, v)
		}
		// What the ledger has unverified is no result now.
		seen, err := phases(t, h.source("app:1"), h.target("app:2"), opts)
		if err != nil || seen["reused"] != 0 || seen["converted"] < 2 {
			t.Errorf("%s: %v, %v", profile, seen, err)
		}
		for range 2 { // converted, and then reused
			r = convertTo(t, h.source("app:1"), h.target("app:3"), opts)
			v := r.Variants[0]
			if v.Files != 5 {
				t.Errorf("%s: %d files compared, want ., etc, etc/new, etc/passwd and link", profile, v.Files)
			}
			for i, l := range v.Layers {
				if l.Verified == nil || l.Verified.By != proof.Version || l.Verified.Entries != 3 || l.Verified.Bytes == 0 {
					t.Errorf("%s: layer %d: %+v", profile, i, l.Verified)
				}
			}
		}
		if seen, err := phases(t, h.source("app:1"), h.target("app:4"), opts); err != nil || seen["reused"] < 2 || seen["converted"] != 0 {
			t.Errorf("%s: not from the ledger: %v, %v", profile, seen, err)
		}
	}
}

// TestWriterAtFault changes a byte that the writer has written: nothing is published.
func TestWriterAtFault(t *testing.T) {
	for name, at := range map[string]func(l *erofs.Layer) int64{
		"data":     func(*erofs.Layer) int64 { return 4096 + 5 },
		"metadata": func(l *erofs.Layer) int64 { return l.Metadata.Offset + 2*32 + 24 }, // the root's owner
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			twoLayers(t, h, "app:1")
			damage := convert.WithWritten(convert.Options{AllPlatforms: true}, func(f *os.File, l *erofs.Layer) {
				var b [1]byte
				if _, err := f.ReadAt(b[:], at(l)); err != nil {
					t.Error(err)
				}
				b[0] ^= 1
				if _, err := f.WriteAt(b[:], at(l)); err != nil {
					t.Error(err)
				}
			})
			_, err := convert.Image(t.Context(), h.source("app:1"), h.target("app:2"), damage)
			var differ *proof.DifferError
			if !errors.As(err, &differ) || convert.Permanent(err) {
				t.Errorf("got %v, want a difference that another machine may not have", err)
			}
			if _, err := h.target("app:2").Head(t.Context()); !errors.Is(err, convert.ErrNotFound) {
				t.Errorf("the tag: %v, want none", err)
			}
			blind := damage
			blind.Verify = convert.VerifyNone
			_, err = convert.Image(t.Context(), h.source("app:1"), h.target("app:2"), blind)
			if errors.As(err, &differ) {
				t.Errorf("nobody was to look: %v", err)
			}
		})
	}
}
