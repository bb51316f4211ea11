package wine_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/lithify/lithify/convert/preflight"
	"github.com/lithify/lithify/test/wine"
)

// What lithify doctor says of a Windows that writes block CIMs, and in the end of one without
// the library.
func testDoctor(t *testing.T, p *wine.Prefix) {
	exe := p.Program(t, "lithify", lithify)
	temp := t.TempDir()
	doctor := func(env ...string) (facts map[string]preflight.Fact, err error) {
		out, err := p.Command(t.Context(), exe, env, "doctor", "--for", "blockcim", "--containerd", "", "-o", "json", "--dir", wine.Path(temp)).Output()
		var said struct{ Facts []preflight.Fact }
		if err := json.Unmarshal(out, &said); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		facts = map[string]preflight.Fact{}
		for _, f := range said.Facts {
			t.Logf("%s: %v, %s", f.Name, f.OK, f.Found)
			facts[f.Name] = f
		}
		return facts, err
	}
	facts, err := doctor()
	if err != nil {
		t.Error(err)
	}
	for name, want := range map[string]string{
		"windows": "10.0.26100.1", "blockcim-write": "cimwriter.dll 10.0.26100.1 on build 26100", "offreg": "offreg.dll",
		"hard-links": wine.Path(temp), "long-paths": wine.Path(temp), "temp": wine.Path(temp),
	} {
		if f := facts[name]; !f.OK || f.Found != want {
			t.Errorf("%s: %+v, want %q", name, f, want)
		}
	}
	if f := facts["blockcim-mount"]; f.OK || f.Found != "build 26100 mounts none" {
		t.Errorf("blockcim-mount: %+v", f)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if err := os.Remove(filepath.Join(filepath.Dir(exe), "cimwriter.dll")); err != nil {
		t.Fatal(err)
	}
	if facts, err = doctor(); err == nil || facts["blockcim-write"].OK || facts["blockcim-write"].Do == "" {
		t.Errorf("without the library: %v, %+v", err, facts["blockcim-write"])
	}
}
