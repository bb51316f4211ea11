package winlayer_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/lithify/lithify/test/wine/winlayer"
)

func TestFixtures(t *testing.T) {
	for name, b := range map[string][]byte{
		"base": winlayer.Base(), "child": winlayer.Child(), "top": winlayer.Top(), "copied": winlayer.Copied(),
	} {
		check(t, name, b)
	}
}

func TestRandom(t *testing.T) {
	for seed := range uint64(20) {
		for _, isBase := range []bool{true, false} {
			b := winlayer.Random(seed, isBase)
			if !bytes.Equal(b, winlayer.Random(seed, isBase)) {
				t.Fatalf("seed %d, base %v: differs from itself", seed, isBase)
			}
			check(t, fmt.Sprintf("seed %d, base %v", seed, isBase), b)
		}
	}
}

// check reads a layer: a name is there once, whatever its case, in a directory that came
// before it.
func check(t *testing.T, layer string, b []byte) {
	t.Helper()
	dirs, names := map[string]bool{"": true}, map[string]bool{}
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%s: %v", layer, err)
		}
		name := strings.ToUpper(strings.TrimSuffix(h.Name, "/"))
		parent := name[:max(0, strings.LastIndexByte(name, '/'))]
		if removed := strings.Contains(name, "/.WH."); !removed && !dirs[parent] {
			t.Errorf("%s: %s before its directory", layer, h.Name)
		}
		if names[name] {
			t.Errorf("%s: %s twice", layer, h.Name)
		}
		names[name] = true
		dirs[name] = h.Typeflag == tar.TypeDir
	}
}
