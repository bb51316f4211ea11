package wine_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/lithify/lithify/test/wine"
	"github.com/lithify/lithify/test/wine/winlayer"
)

// containerd's blockcim snapshotter unpacks three layers, and merges them for a container:
// the topmost first, under the names that policies of confidential containers hash.
func testUnpack(t *testing.T, p *wine.Prefix) {
	exe := p.Program(t, "unpacker", "github.com/lithify/lithify/test/wine/internal/unpacker")
	r := given(t, p, exe, nil, nil, winlayer.Base(), winlayer.Child(), winlayer.Top())
	if r.err != nil {
		t.Fatal(r.err)
	}
	if want := `snapshots\\3\\merged.vhd\\merged.cim"`; !strings.Contains(r.out, want) {
		t.Errorf("no %s in %s", want, r.out)
	}
	merged := regexp.MustCompile(`\d\\layer\.vhd\\layer\.cim flags`).FindAllString(r.calls, -1)
	if want := []string{`3\layer.vhd\layer.cim flags`, `2\layer.vhd\layer.cim flags`, `1\layer.vhd\layer.cim flags`}; !slices.Equal(merged, want) {
		t.Errorf("merged %q, want %q", merged, want)
	}
}
