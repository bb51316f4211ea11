package registry_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/lithify/lithify/convert/registry"
)

func TestReferences(t *testing.T) {
	d := digest.FromString("x").String()
	for _, c := range []struct {
		ref    string
		name   string // empty: refused
		create bool   // Create takes it too
	}{
		{"debian:12", "index.docker.io/library/debian:12", true},
		{"debian", "index.docker.io/library/debian:latest", true},
		{"docker.io/library/debian:12", "index.docker.io/library/debian:12", true},
		{"docker://debian:12", "index.docker.io/library/debian:12", true},
		{"host:5000/a/b/c:v1", "host:5000/a/b/c:v1", true},
		{"docker://oci:5000/a:v1", "oci:5000/a:v1", true},
		{"host.example/a@" + d, "host.example/a@" + d, false},
		{"host.example/a:v1@" + d, "host.example/a@" + d, false},
		{"oci:dir:v1", "oci:$PWD/dir:v1", true},
		{"oci:dir", "oci:$PWD/dir", true},
		{"oci:dir:reg.example:5000/a:v1", "oci:$PWD/dir:reg.example:5000/a:v1", true},
		{"oci:dir@" + d, "oci:$PWD/dir@" + d, false},
		{"oci:dir:v1@" + d, "oci:$PWD/dir:v1@" + d, false},
		{"oci:a@b:v1", "oci:$PWD/a@b:v1", true},
		{"oci:", "", false},
		{"oci::v1", "", false},
		{"docker-archive:", "", false},
		{"", "", false},
		{"host.example/a/../b:v1", "", false},
		{"host.example/a//b:v1", "", false},
		{"host.example/./a:v1", "", false},
		{"Upper/case", "", false},
		{"a b", "", false},
		{"./dir", "", false},
		{"/dir", "", false},
		{"../etc/passwd", "", false},
		{"host/a@sha256:123", "", false},
		{"https://host/a:v1", "", false},
		{"http://user:" + canary + "@host/a:v1", "", false},
		{"user:" + canary + "@host/a:v1", "", false},
		{"user:" + canary + "@host/a:v1@" + d, "", false},
		{"docker://user:" + canary + "@host/a", "", false},
		{"user:" + canary + "://@host/a", "", false},
		{"user:x@" + canary + "@host/a", "", false},
	} {
		t.Run(c.ref, func(t *testing.T) {
			t.Chdir(t.TempDir())
			want := strings.Replace(c.name, "$PWD/", mustAbs(t)+string(filepath.Separator), 1)
			dst, err := registry.Create(c.ref, options())
			if (err == nil) != c.create {
				t.Errorf("Create = %v", err)
			}
			if err == nil && dst.Name() != want {
				t.Errorf("Create: %s, want %s", dst.Name(), want)
			}
			if err != nil {
				holdsNoSecret(t, "Create", err)
			}
			if strings.HasPrefix(c.ref, "oci:dir") && c.create {
				desc, raw := image(t, dst, "x", nil)
				if err := dst.Tag(t.Context(), desc, raw, ""); err != nil {
					t.Fatal(err)
				}
			} else if strings.HasPrefix(c.ref, "oci:") && c.name != "" {
				return // nothing there to open
			}
			src, err := registry.Open(c.ref, options())
			if c.name == "" && err == nil {
				t.Fatalf("Open gave %s", src.Name())
			}
			if c.name == "" {
				if !errors.Is(err, errdefs.ErrInvalidArgument) {
					t.Errorf("Open = %v, want ErrInvalidArgument", err)
				}
				holdsNoSecret(t, "Open", err)
				return
			}
			if err != nil || src.Name() != want {
				t.Errorf("Open = %v, %v, want %s", src, err, want)
			}
		})
	}
}

func TestAbsolute(t *testing.T) {
	d := "@" + digest.FromString("x").String()
	dir := filepath.Join(t.TempDir(), "here")
	odd := filepath.Join(t.TempDir(), "a:b")
	cases := map[string]string{
		"debian:12":                       "debian:12",
		"oci.example:5000/a:v1" + d:       "oci.example:5000/a:v1" + d,
		"oci:xy":                          "oci:$PWD/xy",
		"oci:xy:v1":                       "oci:$PWD/xy:v1",
		"oci:xy:v1" + d:                   "oci:$PWD/xy:v1" + d,
		"oci:a@b" + d:                     "oci:$PWD/a@b" + d,
		"oci:.:reg.example:5000/a:v1":     "oci:$PWD:reg.example:5000/a:v1",
		"oci-archive:y/../a.tar:v1":       "oci-archive:$PWD/a.tar:v1",
		"docker-archive:a.tar:debian:12":  "docker-archive:$PWD/a.tar:debian:12",
		"docker-archive:a.tar:debian" + d: "docker-archive:$PWD/a.tar:debian" + d,
		"oci:":                            "",
		"oci::v1":                         "",
		"oci-archive:" + d:                "",
		"docker-archive:":                 "",
		"./x":                             "",
	}
	dirs := []string{dir}
	if runtime.GOOS == "windows" {
		maps.Copy(cases, map[string]string{
			`oci:C:\x:tag`: `oci:C:\x:tag`, `oci:C:\x`: `oci:C:\x`,
			`docker-archive:\\host\share\a.tar:b:1`: `docker-archive:\\host\share\a.tar:b:1`,
		})
	} else {
		dirs = append(dirs, odd) // nothing below it can be named
	}
	for _, dir := range dirs {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		t.Chdir(dir)
		for ref, want := range cases {
			if dir == odd && strings.Contains(want, "$PWD") {
				want = ""
			}
			want = strings.Replace(want, "$PWD/", mustAbs(t)+string(filepath.Separator), 1)
			want = strings.Replace(want, "$PWD", mustAbs(t), 1)
			got, err := registry.Absolute(ref)
			if (err == nil) != (want != "") || err == nil && got != want {
				t.Errorf("%s: got %s, %v, want %q", ref, got, err, want)
			}
			if err != nil && !errors.Is(err, errdefs.ErrInvalidArgument) {
				t.Errorf("%s: %v, want ErrInvalidArgument", ref, err)
			}
		}
	}
}

func mustAbs(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
