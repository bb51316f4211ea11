package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/lithify/lithify/convert"
)

// TestCacheExport prints a line for each layer, what is left out with its reason.
func TestCacheExport(t *testing.T) {
	hub := newCounting(t)
	hub.push(t, threeLayers(t), "app:1")
	dir := t.TempDir()
	args := []string{"cache", "export", "--verity", "--platform", "linux/amd64", hub.host + "/app:1", dir}
	out := must(t, args...)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], " written: ") || !strings.HasSuffix(lines[0], ".erofs") ||
		!strings.Contains(lines[1], " left out: it uses directories that it does not list") || !strings.Contains(lines[2], "(usr)") {
		t.Fatalf("got %q", out)
	}
	file := lines[0][strings.LastIndex(lines[0], " in ")+4:]
	for _, name := range []string{file, file + ".dmverity"} {
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
		}
	}
	var r convert.CacheResult
	if err := json.Unmarshal([]byte(must(t, append(args, "-o", "json")...)), &r); err != nil || len(r.Layers) != 3 || r.Layers[0].State != convert.CacheThere || r.Layers[2].State != convert.CacheLeftOut {
		t.Errorf("again: %v, %+v", err, r)
	}
}
