package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lithify/lithify/cimfs/classictest"
)

// writeCIM writes a CIM of a few files, and gives its path.
func writeCIM(t *testing.T) string {
	t.Helper()
	hosts := &classictest.File{
		Content: []byte("127.0.0.1 localhost\n"),
		Flags:   8,
		Times:   [4]uint64{0, 116444736010000005},
		SD:      []byte("sd"),
		Streams: map[string][]byte{"Zone": []byte("3")},
	}
	far := &classictest.File{Times: [4]uint64{0, 1<<64 - 1}} // which package json does not print
	image := classictest.Image{Root: classictest.Dir(map[string]*classictest.File{
		"Files":     classictest.Dir(map[string]*classictest.File{"hosts": hosts, "Hosts2": hosts}),
		"far\x1b[m": far,
	})}
	path, err := image.Write(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCIM(t *testing.T) {
	cim := writeCIM(t)
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"root": {[]string{"ls", cim}, "" +
			"d-----  0                                 Files\n" +
			"------  0  60056-05-28T05:36:10.9551615Z  \"far\\x1b[m\"\n"},
		"directory": {[]string{"ls", cim, `\FILES`}, "-a----  20  1970-01-01T00:00:01.0000005Z  FILES/Hosts2\n-a----  20  1970-01-01T00:00:01.0000005Z  FILES/hosts\n"},
		"file":      {[]string{"ls", cim, "/files/hosts"}, "-a----  20  1970-01-01T00:00:01.0000005Z  files/hosts\n"},
		"all": {[]string{"ls", "-R", cim}, "" +
			"d-----  0                                  Files\n" +
			"-a----  20  1970-01-01T00:00:01.0000005Z   Files/Hosts2\n" +
			"-a----  20  1970-01-01T00:00:01.0000005Z   Files/hosts\n" +
			"------  0   60056-05-28T05:36:10.9551615Z  \"far\\x1b[m\"\n"},
		"content":  {[]string{"cat", cim, `Files\hosts`}, "127.0.0.1 localhost\n"},
		"stream":   {[]string{"cat", cim, "files/hosts:zone"}, "3"},
		"verified": {[]string{"verify", cim}, cim + " holds together: directories 2, files 2, further names 1, streams 1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got := must(t, append([]string{"cim"}, tc.args...)...)
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
	var list []cimEntry
	if err := json.Unmarshal([]byte(must(t, "cim", "ls", "-R", "-o", "json", cim)), &list); err != nil {
		t.Fatal(err)
	}
	if e := list[2]; len(list) != 4 || e.Path != "Files/hosts" || string(e.SecurityDescriptor) != "sd" || len(e.Streams) != 1 || e.Streams[0].Name != "Zone" || e.Attributes != 0x20 || e.FileID != list[1].FileID {
		t.Errorf("got %+v", list)
	}
	if got := must(t, "cim", "verify", "-o", "json", cim); !strings.Contains(got, `"links": 1`) {
		t.Errorf("verify: %s", got)
	}
}

func TestCIMFooter(t *testing.T) {
	content := bytes.Repeat([]byte{7}, 1024)
	file := filepath.Join(t.TempDir(), "layer.vhd")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	added := must(t, "cim", "footer", "add", file)
	if shown := must(t, "cim", "footer", "show", file); shown != added || !strings.HasPrefix(shown, "fixed disk of 1024 bytes, ID ") || !strings.Contains(shown, "created 2000-01-01T00:00:00Z") {
		t.Errorf("added %q, shown %q", added, shown)
	}
	if code, _, stderr := lithify(t, "cim", "footer", "add", file); code != 1 || !strings.Contains(stderr, "has a VHD footer") {
		t.Errorf("added again: exit code %d, %q", code, stderr)
	}
	var footer struct {
		ID       string
		DiskSize int64
	}
	if err := json.Unmarshal([]byte(must(t, "cim", "footer", "strip", "-o", "json", file)), &footer); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(added, footer.ID) || footer.ID == "" || footer.DiskSize != 1024 {
		t.Errorf("stripped %+v", footer)
	}
	if b, err := os.ReadFile(file); err != nil || !bytes.Equal(b, content) {
		t.Errorf("stripped is not what it was: %v", err)
	}
}

func TestCIMErrors(t *testing.T) {
	cim := writeCIM(t)
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	emulated := file("emulated", "EMUCIM1 "+strings.Repeat("x", 1016))
	third := file("third.cim", "cimfile0\x48\x00\x00\x00\x00\x00\x00\x00\x03"+strings.Repeat("\x00", 100))
	other, odd := file("other", strings.Repeat("x", 1024)), file("odd", "x")
	none := filepath.Join(dir, "none")
	for name, tc := range map[string]struct {
		args []string
		want int
		says string
	}{
		"no verb":         {[]string{"transmogrify"}, 2, "transmogrify"},
		"too many":        {[]string{"ls", "a", "b", "c"}, 2, "ls CIM [PATH]"},
		"no CIM":          {[]string{"ls", none}, 4, "none"},
		"not a CIM":       {[]string{"verify", other}, 3, "not a file of a classic CIM"},
		"version 3":       {[]string{"ls", third}, 1, "version 3.0"},
		"no path":         {[]string{"cat", cim, "none"}, 4, "none"},
		"no directory":    {[]string{"ls", cim, "none"}, 4, "none"},
		"no stream":       {[]string{"cat", cim, "Files/hosts:none"}, 4, "hosts:none"},
		"directory":       {[]string{"cat", cim, "files"}, 2, "a directory"},
		"no footer":       {[]string{"footer", "show", other}, 4, "no VHD footer"},
		"nothing to cut":  {[]string{"footer", "strip", other}, 4, "no VHD footer"},
		"no whole sector": {[]string{"footer", "add", odd}, 3, "sectors"},
		"no file":         {[]string{"footer", "add", none}, 4, "none"},
		"emulated ls":     {[]string{"ls", emulated}, 3, "lithify's tests"},
		"emulated cat":    {[]string{"cat", emulated, "x"}, 3, "lithify's tests"},
		"emulated verify": {[]string{"verify", emulated}, 3, "lithify's tests"},
		"emulated add":    {[]string{"footer", "add", emulated}, 3, "lithify's tests"},
		"emulated strip":  {[]string{"footer", "strip", emulated}, 3, "lithify's tests"},
		"emulated show":   {[]string{"footer", "show", emulated}, 3, "lithify's tests"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := lithify(t, append([]string{"cim"}, tc.args...)...)
			if code != tc.want || !strings.Contains(stderr, tc.says) || stdout != "" {
				t.Errorf("exit code %d, want %d; stdout %q; stderr %q, want it to name %q", code, tc.want, stdout, stderr, tc.says)
			}
		})
	}
	if b, err := os.ReadFile(odd); err != nil || string(b) != "x" {
		t.Errorf("a file that was refused: %q, %v", b, err)
	}
}
