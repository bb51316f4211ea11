package convert_test

import (
	"strconv"
	"testing"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/erofs/verity"
)

// TestVerity: where the annotations say there is a tree there is one, a conversion
// without trees does not get those layers from the ledger, nor the other way round,
// and who looks at the variant knows what it was made with.
func TestVerity(t *testing.T) {
	h := newHub(t)
	pub, key := keys(t)
	src := h.target("app:1")
	// The second layer is converted in a context, too.
	tag(t, src, manifest(t, src, "linux", "amd64", gz(t, file{name: "etc/", mode: 0o700}, file{name: "etc/a", body: "a"}), gz(t, file{name: "etc/b", body: "b"})))
	for _, verityWanted := range []bool{false, true} {
		for _, dialect := range []erofs.Dialect{erofs.DialectLegacy, erofs.DialectSpec} {
			dst := h.target("app:" + string(dialect) + strconv.FormatBool(verityWanted))
			opts := convert.Options{Verity: verityWanted, Dialect: dialect, Ledger: h.ledger(key, pub)}
			opts.Platforms = amd64.Platforms
			n, err := phases(t, h.source("app:1"), dst, opts)
			if err != nil {
				t.Fatal(err)
			}
			if again := dialect == erofs.DialectSpec; n["reused"] > 0 != again || n["converted"] > 0 == again {
				t.Errorf("%s, verity %v: %d layers converted and %d reused", dialect, verityWanted, n["converted"], n["reused"])
			}
			pairs, err := convert.Pairs(t.Context(), dst, nil)
			if err != nil || len(pairs) != 1 || pairs[0].Verity != verityWanted {
				t.Fatalf("%v, %+v: want one variant, verity %v", err, pairs, verityWanted)
			}
			for _, l := range pairs[0].Layers {
				checkTree(t, read(t, dst, l), l.Annotations, verityWanted)
			}
		}
	}
}

func checkTree(t *testing.T, blob []byte, notes map[string]string, want bool) {
	t.Helper()
	root, fs := notes[erofs.AnnotationVerityRootDigest], notes[erofs.AnnotationFSVerity]
	if (root != "") != want || (fs != "") != want {
		t.Fatalf("root digest %q and fs-verity digest %q: want them %v", root, fs, want)
	}
	if !want {
		return
	}
	off, err := strconv.ParseInt(notes[erofs.AnnotationVerityHashOffset], 10, 64)
	if err != nil || int64(len(blob)) != off+verity.Size(off) || string(blob[off:off+8]) != "verity\x00\x00" {
		t.Fatalf("%v: no tree at %d of %d bytes", err, off, len(blob))
	}
	file := verity.NewFileDigest()
	file.Write(blob)
	tree := verity.NewTree("")
	if _, err := tree.Write(blob[:off]); err != nil {
		t.Fatal(err)
	}
	if err := tree.Finish(blob[:verity.BlockSize]); err != nil {
		t.Fatal(err)
	}
	if tree.Root().String() != root || file.Digest().String() != fs {
		t.Errorf("root digest %s and fs-verity digest %s, the annotations say %s and %s", tree.Root(), file.Digest(), root, fs)
	}
}
