package main

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The page of lithify serve opens with the key in its file, which stays the same and is for its
// owner alone, and with nothing else.
func TestServePage(t *testing.T) {
	t.Setenv("LITHIFY_CONTEXT", filepath.Join(t.TempDir(), "context.json"))
	dir := t.TempDir()
	said := regexp.MustCompile(`^page at (http://127\.0\.0\.1:\d+/), its key is in (.*)\n$`)
	var keys []string
	for range 2 {
		line, stop := background(t, "serve", "--dir", dir, "--slots", "0", "--http", "127.0.0.1:0")
		m := said.FindStringSubmatch(line)
		if m == nil {
			t.Fatal(line)
		}
		info, err := os.Stat(m[2])
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%v, %v", info, err)
		}
		key, err := os.ReadFile(m[2])
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, string(key))
		jar, _ := cookiejar.New(nil) // its error is nil
		client := &http.Client{Jar: jar}
		for secret, want := range map[string]string{"": "/login", "not the key of it": "/login", string(key): "/"} {
			resp, err := client.PostForm(m[1]+"login", url.Values{"secret": {secret}})
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.Request.URL.Path != want {
				t.Errorf("with %q one is at %s", secret, resp.Request.URL)
			}
		}
		stop()
	}
	if keys[0] != keys[1] || len(strings.TrimSpace(keys[0])) < 20 {
		t.Errorf("keys %q", keys)
	}
	if code, _, stderr := lithify(t, "serve", "--dir", dir, "--slots", "0", "--http", "0.0.0.0:0"); code != 2 || !strings.Contains(stderr, "in the clear") {
		t.Errorf("for others: exit code %d, %s", code, stderr)
	}
}
