package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExtractTar(t *testing.T) {
	host := newRegistry(t)
	pushImage(t, host+"/app:1", "linux", "amd64")
	if code, _, stderr := lithify(t, "convert", "--insecure", "--profile", "erofs-tar", "--platform", "linux/amd64", host+"/app:1", host+"/app:2"); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "layer.tar")
	extract := func(args ...string) (int, string, string) {
		return lithify(t, append([]string{"extract-tar", "--insecure"}, args...)...)
	}
	for _, tc := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{host + "/app:2", file}, 2, "--layer"},
		{[]string{host + "/app:2", file, "--layer", "3"}, 2, "1 to 2"},
		{[]string{host + "/app:2", file, "--layer", "sha256:" + strings.Repeat("0", 64)}, 4, "none of"},
		{[]string{host + "/app:1", file, "--layer", "1"}, 3, "erofs-tar"},
		{[]string{host + "/app:2", file + "/missing/x", "--layer", "1"}, 4, "missing"},
	} {
		code, stdout, stderr := extract(tc.args...)
		if code != tc.code || stdout != "" || !strings.Contains(stderr, tc.says) {
			t.Errorf("%q: exit code %d, %q, %q; want %d and %q", tc.args, code, stdout, stderr, tc.code, tc.says)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left after errors: %v %v", left, err)
	}
	for _, n := range []string{"1", "2"} {
		code, stdout, stderr := extract(host+"/app:2", file, "--layer", n)
		b, err := os.ReadFile(file)
		if code != 0 || err != nil {
			t.Fatalf("exit code %d, %s, %v", code, stderr, err)
		}
		diffID := fmt.Sprintf("sha256:%x", sha256.Sum256(b))
		if want := fmt.Sprintf("%s %d bytes\n", diffID, len(b)); stdout != want {
			t.Errorf("layer %s: %q, want %q", n, stdout, want)
		}
		again := filepath.Join(t.TempDir(), "again.tar")
		if code, _, stderr := extract(host+"/app:2", again, "--layer", diffID, "--platform", "linux/amd64", "-o", "json"); code != 0 {
			t.Errorf("by DiffID: exit code %d, %s", code, stderr)
		}
	}
}
