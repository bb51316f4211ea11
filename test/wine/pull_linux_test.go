package wine_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/lithify/lithify/test/wine"
	"github.com/lithify/lithify/test/wine/winlayer"
)

// testPull has containerd unpack, and merge, what cimfs.Chain has made of layers, and by
// its own differ the layers themselves: of both it has the same blocks.
func testPull(t *testing.T, p *wine.Prefix) {
	layers := [][]byte{winlayer.Base(), winlayer.Child(), winlayer.Top()}
	made := chainOf(t, p, nil, []string{"-merge"}, layers...)
	if made.err != nil {
		t.Fatal(made.err)
	}
	exe := p.Program(t, "puller", "github.com/lithify/lithify/test/wine/internal/puller", emulated)
	pull := func(t *testing.T, rootHash string, flags ...string) result {
		dir := t.TempDir()
		args := append(flags, wine.Path(dir))
		for i, b := range made.blocks[:len(layers)] {
			hash := b.RootHash
			if i == 2 && rootHash != "" {
				hash = rootHash
			}
			args = append(args, wine.Path(filepath.Join(made.dir, fmt.Sprint(i), "layer.vhd")), hash)
		}
		if slices.Contains(flags, "-merged=3") {
			args = append(args, wine.Path(filepath.Join(made.dir, "merged", "merged.vhd")), made.blocks[3].RootHash)
		}
		log := filepath.Join(dir, "calls.jsonl")
		out, err := p.Command(t.Context(), exe, []string{"CIMEMU_LOG=" + wine.Path(log)}, args...).CombinedOutput()
		var calls strings.Builder
		if _, statErr := os.Stat(log); statErr == nil {
			for _, c := range wine.ReadCalls(t, log) {
				fmt.Fprintln(&calls, c)
			}
		}
		return result{dir, calls.String(), string(out), err}
	}
	t.Run("placed", func(t *testing.T) {
		r := pull(t, "")
		if r.err != nil {
			t.Fatalf("%v: %s", r.err, r.out)
		}
		if want := `snapshots\\3\\merged.vhd\\merged.cim"`; !strings.Contains(r.out, want) {
			t.Errorf("no %s in %s", want, r.out)
		}
		if strings.Contains(r.calls, "CimCreateFile") || strings.Count(r.calls, "CimCreateImage2") != 1 {
			t.Errorf("more was written than the merged CIM:\n%s", r.calls)
		}
		theirs := given(t, p, p.Program(t, "unpacker", "github.com/lithify/lithify/test/wine/internal/unpacker"), nil, nil, layers...)
		if theirs.err != nil {
			t.Fatal(theirs.err)
		}
		for i := range layers {
			id := fmt.Sprint(i + 1)
			got, want := read(t, r.dir, "snapshots", "snapshots", id, "layer.vhd"), read(t, theirs.dir, "snapshots", "snapshots", id, "layer.vhd")
			if !bytes.Equal(got, want) || len(got) == 0 {
				t.Errorf("layer %d: placed %d bytes, containerd's differ makes other %d", i, len(got), len(want))
			}
		}
	})
	// With what joins the layers the snapshotter has nothing to write; who does not know that,
	// or is not told to take it, has what it has without.
	for name, flags := range map[string][]string{"merged": {"-merged=3", "-take-merged"}, "merged, not taken": {"-merged=3"}} {
		t.Run(name, func(t *testing.T) {
			r := pull(t, "", flags...)
			if r.err != nil {
				t.Fatalf("%v: %s", r.err, r.out)
			}
			want := 2 - len(flags)
			if got := strings.Count(r.calls, "CimCreateImage2"); got != want {
				t.Errorf("%d CIMs were written, want %d:\n%s", got, want, r.calls)
			}
			got, theirs := read(t, r.dir, "snapshots", "snapshots", "3", "merged.vhd"), read(t, made.dir, "merged", "merged.vhd")
			if !bytes.Equal(got, theirs) {
				t.Error("the snapshotter has another merged CIM than the image")
			}
		})
	}
	for name, c := range map[string]struct {
		rootHash, says string
		flags          []string
	}{
		"other root hash":     {strings.Repeat("a", 64), "it is sealed with root hash " + made.blocks[2].RootHash, nil},
		"other diff ID":       {"", "wrong diff id", []string{"-diff-id", digest.FromString("other").String()}},
		"unknown media types": {"", "containerd has unpacked nothing", []string{"-layer-types=false"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := pull(t, c.rootHash, c.flags...)
			if r.err == nil || !strings.Contains(r.out, c.says) {
				t.Errorf("%v: %s; want an error that says %q", r.err, r.out, c.says)
			}
			left, err := os.ReadDir(filepath.Join(r.dir, "snapshots", "snapshots"))
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			if len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}
