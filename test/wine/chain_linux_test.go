package wine_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/lithify/lithify/cimfs"
	"github.com/lithify/lithify/test/wine"
	"github.com/lithify/lithify/test/wine/winlayer"
)

const chain = "github.com/lithify/lithify/test/wine/internal/chain"

// TestChain is cimfs.Chain.
func TestChain(t *testing.T) {
	t.Parallel()
	p := wine.New(t)
	for name, test := range map[string]func(*testing.T, *wine.Prefix){
		"plan": testPlan, "image": testChained, "nothing left": testNothingLeft, "emulated": testEmulatedRefused, "pull": testPull, "many": testMany,
	} {
		t.Run(name, func(t *testing.T) { test(t, p) })
	}
}

// chained is a run of the program chain.
type chained struct {
	dir    string
	blocks []cimfs.Block
	calls  []wine.Call
	err    error // with what it said
}

func chainOf(t *testing.T, p *wine.Prefix, env, args []string, layers ...[]byte) chained {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "calls.jsonl")
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o700); err != nil {
		t.Fatal(err)
	}
	args = append(args, wine.Path(work))
	for i, b := range layers {
		tar := filepath.Join(dir, fmt.Sprintf("%d.tar", i))
		if err := os.WriteFile(tar, b, 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, wine.Path(tar))
	}
	cmd := p.Command(t.Context(), p.Program(t, "chain", chain, emulated), append(env, "CIMEMU_LOG="+wine.Path(log)), args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	r := chained{dir: work, calls: wine.ReadCalls(t, log)}
	if err != nil {
		r.err = fmt.Errorf("%w: %s", err, stderr.Bytes())
	} else if err := json.Unmarshal(out, &r.blocks); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return r
}

// testPlan compares what cimfs.Plan says of layers with what hcsshim does with them, each
// argument of each call.
func testPlan(t *testing.T, p *wine.Prefix) {
	layers := [][]byte{winlayer.Random(0, true), winlayer.Child(), winlayer.Top(), winlayer.Copied()}
	for seed := range uint64(8 * *seeds) {
		layers = append(layers, winlayer.Random(seed, false))
	}
	r := chainOf(t, p, nil, nil, layers...)
	if r.err != nil {
		t.Fatal(r.err)
	}
	made := split(r.calls)
	if len(made) != len(layers) {
		t.Fatalf("hcsshim made %d CIMs of %d layers", len(made), len(layers))
	}
	for i, layer := range layers {
		var plan []cimfs.Call
		l, err := cimfs.Plan(t.Context(), bytes.NewReader(layer), i == 0, func(c cimfs.Call) error {
			plan = append(plan, c)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(unmerged(made[i], plan), plan); diff != "" {
			t.Errorf("layer %d (-hcsshim +plan):\n%s", i, diff)
		}
		if diff := cmp.Diff(l, r.blocks[i].Layer); diff != "" {
			t.Errorf("layer %d as a whole (-plan +made):\n%s", i, diff)
		}
	}
}

// split is what was asked for, by CIM, in the words of cimfs.
func split(calls []wine.Call) (all [][]cimfs.Call) {
	for _, c := range calls {
		if c.Fn == "CimCreateImage2" {
			all = append(all, nil)
			continue
		}
		if len(all) == 0 {
			continue
		}
		of := &all[len(all)-1]
		switch c.Fn {
		case "CimCreateFile":
			*of = append(*of, cimfs.Call{
				Op: cimfs.OpFile, Path: c.Path, Attributes: c.Attr, Size: c.Size,
				CreationTime: c.CTime, LastWriteTime: c.MTime, ChangeTime: c.ChTime, LastAccessTime: c.ATime,
				SecurityDescriptor: unhex(c.SD), Reparse: unhex(c.Reparse), ExtendedAttributes: unhex(c.EA),
			})
		case "CimCloseStream":
			if c.SHA256 != "" {
				(*of)[len(*of)-1].Digest = digest.NewDigestFromEncoded(digest.SHA256, c.SHA256)
			}
		case "CimCreateHardLink":
			*of = append(*of, cimfs.Call{Op: cimfs.OpLink, Path: c.New, Target: c.Old})
		case "CimCreateMergeLink":
			*of = append(*of, cimfs.Call{Op: cimfs.OpMergeLink, Path: c.New, Target: c.Old})
		case "CimTombstoneFile":
			*of = append(*of, cimfs.Call{Op: cimfs.OpTombstone, Path: c.Path})
		}
	}
	return all
}

// unmerged takes away what a plan cannot know: the content of a hive that is merged. Of
// symbolic links the recorder has the digest of no content.
func unmerged(made, plan []cimfs.Call) []cimfs.Call {
	for i := range min(len(made), len(plan)) {
		if plan[i].Merged && made[i].Path == plan[i].Path {
			made[i].Merged, made[i].Size, made[i].Digest = true, 0, ""
		}
		if plan[i].Digest == "" && made[i].Digest == digest.FromString("") {
			made[i].Digest = ""
		}
	}
	return made
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(fmt.Sprintf("recorded %q: %v", s, err))
	}
	if len(b) == 0 {
		return nil
	}
	return b
}

// testChained makes an image's CIMs in one process, and in two of which the other has the hives
// alone, and has the merge name the topmost layer first.
func testChained(t *testing.T, p *wine.Prefix) {
	layers := [][]byte{winlayer.Base(), winlayer.Copied(), winlayer.Child(), winlayer.Top()}
	whole := chainOf(t, p, nil, []string{"-merge"}, layers...)
	if whole.err != nil {
		t.Fatal(whole.err)
	}
	parts := chainOf(t, p, nil, []string{"-continue", "2"}, layers...)
	if parts.err != nil {
		t.Fatal(parts.err)
	}
	if diff := cmp.Diff(whole.blocks[:4], parts.blocks); diff != "" {
		t.Errorf("another worker makes other CIMs (-one +two):\n%s", diff)
	}
	for i, b := range whole.blocks {
		if b.RootHash == "" || b.Writer.Library != "cimwriter.dll" || b.Writer.Version != "10.0.26100.1" || b.Writer.Build != 26100 {
			t.Errorf("layer %d: root hash %q, writer %+v", i, b.RootHash, b.Writer)
		}
	}
	var sources []string
	for _, c := range whole.calls {
		if c.Fn == "CimAddFsToMergedImage2" {
			sources = append(sources, strings.TrimPrefix(c.Path, wine.Path(whole.dir)))
		}
	}
	want := []string{`\3\layer.vhd\layer.cim`, `\2\layer.vhd\layer.cim`, `\1\layer.vhd\layer.cim`, `\0\layer.vhd\layer.cim`}
	if diff := cmp.Diff(want, sources); diff != "" {
		t.Errorf("merged (-want +got):\n%s", diff)
	}
}

// testMany joins as many layers as an image may have, whose names are longer than a variable of Windows.
func testMany(t *testing.T, p *wine.Prefix) {
	r := chainOf(t, p, nil, []string{"-merge", "-copies", "499"}, winlayer.Base())
	if r.err != nil {
		t.Fatal(r.err)
	}
	names, sources := 0, 0
	for _, c := range r.calls {
		if c.Fn == "CimAddFsToMergedImage2" {
			names, sources = names+len(c.Path), sources+1
		}
	}
	if sources != 500 || names <= 32767 {
		t.Errorf("%d layers with names of %d characters were merged, want 500 and more than a variable has", sources, names)
	}
}

// testNothingLeft has calls fail, and layers be refused.
func testNothingLeft(t *testing.T, p *wine.Prefix) {
	odd := winlayer.New()
	odd.Dir("Files")
	odd.File("Files/a", []byte("a"))
	odd.Stream("Files/a", ":b:$DATA", []byte("b"))
	sddl := winlayer.New()
	sddl.Dir("Files", winlayer.Without("MSWINDOWS.rawsd"), winlayer.Record("MSWINDOWS.sd", "nonsense"))
	for name, c := range map[string]struct {
		fault  string
		layers [][]byte
		says   string
	}{
		"write":     {"CimWriteStream:3=0x80070070", [][]byte{winlayer.Base()}, "disk full"},
		"seal":      {"CimSealImage:1=0x8007001d", [][]byte{winlayer.Base(), winlayer.Child()}, "seal"},
		"merge":     {"CimAddFsToMergedImage2:2=0x80070002", [][]byte{winlayer.Base(), winlayer.Child()}, "merged image"},
		"stream":    {"", [][]byte{winlayer.Base(), odd.Bytes()}, "Files/a:b:$DATA: an alternate data stream"},
		"truncated": {"", [][]byte{winlayer.Base()[:20000]}, "unexpected EOF: invalid argument"},
		"sparse":    {"", [][]byte{winlayer.Base(), winlayer.Holes()}, "a sparse file"},
		"SDDL":      {"", [][]byte{winlayer.Base(), sddl.Bytes()}, "Files: MSWINDOWS.sd is none"},
	} {
		t.Run(name, func(t *testing.T) {
			r := chainOf(t, p, []string{"CIMEMU_FAIL=" + c.fault}, []string{"-merge"}, c.layers...)
			if r.err == nil || !strings.Contains(strings.ToLower(r.err.Error()), strings.ToLower(c.says)) {
				t.Errorf("error %v, want one that says %q", r.err, c.says)
			}
			left, err := os.ReadDir(r.dir)
			if err != nil {
				t.Fatal(err)
			}
			if len(left) >= len(c.layers) && name != "merge" || len(left) > len(c.layers) {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// testEmulatedRefused is the program as users would have it.
func testEmulatedRefused(t *testing.T, p *wine.Prefix) {
	dir := t.TempDir()
	tar := filepath.Join(dir, "base.tar")
	if err := os.WriteFile(tar, winlayer.Base(), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := p.Command(t.Context(), p.Program(t, "chain-of-users", chain), nil, wine.Path(dir), wine.Path(tar)).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "no block CIM") {
		t.Errorf("%v: %s; want a refusal", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "0")); err == nil {
		t.Error("what was made of it is left")
	}
}
