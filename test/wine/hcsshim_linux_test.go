package wine_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aymanbagabas/go-udiff"

	"github.com/lithify/lithify/test/wine"
	"github.com/lithify/lithify/test/wine/winlayer"
)

var (
	update = flag.Bool("update", false, "write testdata anew")
	seeds  = flag.Int("seeds", 3, "of random layers")
)

const importer = "github.com/lithify/lithify/test/wine/internal/importer"

// hcsshim's writer, with the cimwriter.dll of the tests.
func TestHcsshim(t *testing.T) {
	t.Parallel()
	p := wine.New(t)
	t.Run("rules", func(t *testing.T) { p.Test(t, "github.com/lithify/lithify/test/wine/internal/rules") })
	for name, test := range map[string]func(*testing.T, *wine.Prefix){
		"import": testImport, "random": testRandom, "unpack": testUnpack, "upstream": testUpstream, "fail": testFail, "hang": testHang,
	} {
		t.Run(name, func(t *testing.T) { test(t, p) })
	}
}

// What hcsshim v0.15.0 asks of CimFS for three layers and their merge, and that it asks for
// the same a second time.
func testImport(t *testing.T, p *wine.Prefix) {
	layers := [][]byte{winlayer.Base(), winlayer.Child(), winlayer.Top()}
	first := imported(t, p, nil, layers...)
	if first.err != nil {
		t.Fatal(first.err)
	}
	golden(t, "testdata/import.txt", first.calls)
	second := imported(t, p, nil, layers...)
	if diff := udiff.Unified("first", "second", first.calls, second.calls); diff != "" {
		t.Errorf("the second time other calls:\n%s", diff)
	}
	for _, block := range []string{"0/layer.vhd", "1/layer.vhd", "2/layer.vhd", "merged/merged.vhd"} {
		a, b := read(t, first.dir, block), read(t, second.dir, block)
		if !bytes.Equal(a, b) {
			t.Errorf("%s: the second time other bytes", block)
		}
		if !bytes.HasPrefix(a, []byte("EMUCIM1 ")) {
			t.Errorf("%s begins %q", block, a[:8])
		}
	}
}

// Random layers can be imported.
func testRandom(t *testing.T, p *wine.Prefix) {
	for seed := range uint64(*seeds) {
		if r := imported(t, p, nil, winlayer.Random(seed, true), winlayer.Random(seed, false)); r.err != nil {
			t.Errorf("seed %d: %v", seed, r.err)
		}
	}
}

// result is that of a program.
type result struct {
	dir   string // what it wrote
	calls string // what it asked for, a line each
	out   string // what it said
	err   error  // with what it said
}

func imported(t *testing.T, p *wine.Prefix, args []string, layers ...[]byte) result {
	t.Helper()
	return importedWith(t, p, nil, args, layers...)
}

func importedWith(t *testing.T, p *wine.Prefix, env, args []string, layers ...[]byte) result {
	t.Helper()
	return given(t, p, p.Program(t, "importer", importer), env, args, layers...)
}

// given runs a program with a folder and files of layers as its last arguments.
func given(t *testing.T, p *wine.Prefix, exe string, env, args []string, layers ...[]byte) result {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "calls.jsonl")
	args = append(args, wine.Path(dir))
	for i, b := range layers {
		tar := filepath.Join(dir, fmt.Sprintf("%d.tar", i))
		if err := os.WriteFile(tar, b, 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, wine.Path(tar))
	}
	cmd := p.Command(t.Context(), exe, append(env, "CIMEMU_LOG="+wine.Path(log)), args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	var calls strings.Builder
	for _, c := range wine.ReadCalls(t, log) {
		c.Block, c.Path = strings.TrimPrefix(c.Block, wine.Path(dir)), strings.TrimPrefix(c.Path, wine.Path(dir))
		fmt.Fprintln(&calls, c)
	}
	return result{dir, calls.String(), string(out), err}
}

func read(t *testing.T, elem ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := udiff.Unified(path, "got", string(read(t, path)), got); diff != "" {
		t.Error(diff)
	}
}
