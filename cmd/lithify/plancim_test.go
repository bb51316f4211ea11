package main

import (
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/lithify/lithify/test/corpus"
	"github.com/lithify/lithify/test/wine/winlayer"
)

// windowsLayout is an OCI layout of an image for Windows.
func windowsLayout(t *testing.T, raw ...[]byte) string {
	t.Helper()
	var layers []v1.Layer
	for _, b := range raw {
		l, err := corpus.Compressed(types.OCILayer, b)
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, l)
	}
	image, err := corpus.Image(v1.Platform{OS: "windows", Architecture: "amd64", OSVersion: "10.0.26100.1"}, []string{"cmd"}, layers...)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := corpus.WriteLayout(dir, "1", image); err != nil {
		t.Fatal(err)
	}
	return "oci:" + dir + ":1"
}

func TestPlanCIM(t *testing.T) {
	ref := windowsLayout(t, winlayer.Base(), winlayer.Child())
	out := must(t, "plan-cim", ref)
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 3 || !strings.Contains(lines[1], "windows(10.0.26100.1)/amd64") || !strings.Contains(lines[2], "SYSTEM,SOFTWARE,SAM,SECURITY,DEFAULT") {
		t.Errorf("plan-cim printed\n%s; want a line for each of two layers, the second with all hives", out)
	}
	calls := must(t, "plan-cim", "--calls", ref)
	if !strings.Contains(calls, "\ntombstone Files\\License.txt\n") || strings.Count(calls, "\n") < 40 {
		t.Errorf("plan-cim --calls printed\n%s", calls)
	}
	for _, line := range strings.Split(strings.TrimSpace(must(t, "plan-cim", "--calls", "-o", "json", ref)), "\n") {
		if !strings.HasPrefix(line, `{"layer":"sha256:`) {
			t.Fatalf("a line of --calls -o json is %s", line)
		}
	}
}

func TestPlanCIMRefuses(t *testing.T) {
	l := winlayer.New()
	l.Dir("Files")
	l.File("Files/a.txt", []byte("a"))
	l.Stream("Files/a.txt", ":b:$DATA", []byte("b"))
	code, out, errs := lithify(t, "plan-cim", windowsLayout(t, winlayer.Base(), l.Bytes()))
	if code != 3 || !strings.Contains(errs, "Files/a.txt:b:$DATA: an alternate data stream") {
		t.Errorf("exit code %d, stderr %q; want 3 and what is refused", code, errs)
	}
	if !strings.Contains(out, "REFUSED") {
		t.Errorf("stdout %q has no table", out)
	}
	terminal := winlayer.New()
	terminal.Dir("Files")
	terminal.File("Files/\x1b[2J", nil)
	for _, args := range [][]string{nil, {"--calls"}} {
		code, out, errs := lithify(t, append([]string{"plan-cim", windowsLayout(t, winlayer.Base(), terminal.Bytes())}, args...)...)
		if code != 3 || strings.Contains(out+errs, "\x1b") || !strings.Contains(errs, `lithify: windows(10.0.26100.1)/amd64: layer`) {
			t.Errorf("%v: exit code %d, stdout %q, stderr %q; want nothing that works a terminal", args, code, out, errs)
		}
	}
	registry := newRegistry(t)
	pushImage(t, registry+"/linux:1", "linux", "amd64")
	if code, _, errs := lithify(t, "plan-cim", "--insecure", registry+"/linux:1"); code != 3 || !strings.Contains(errs, "no image for Windows") {
		t.Errorf("of a Linux image: exit code %d, stderr %q", code, errs)
	}
}
