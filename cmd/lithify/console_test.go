package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lithify/lithify/console/consoletest"
)

// A CI job that has a token and no key of the pool has an image converted there.
func TestSubmitByAPI(t *testing.T) {
	servePool(t)
	host, ci := newRegistry(t), consoletest.New(t)
	pushImage(t, host+"/acme/app:1", "linux", "amd64")
	config := filepath.Join(t.TempDir(), "console.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `
issuers:
- url: %s
  audience: %s
  grants:
  - claims: {repository: acme/app}
    kinds: [convert]
    reads: [%[3]s/acme/*]
    writes: [%[3]s/acme/*]
    tenant: acme
    insecure: true
`, ci.URL, consoletest.Audience, host), 0o600); err != nil {
		t.Fatal(err)
	}
	line, _ := background(t, "console", "--config", config, "--http", "127.0.0.1:0")
	api := "http://" + strings.TrimSpace(line[strings.LastIndex(line, " "):])
	here := must(t, "convert", "--insecure", host+"/acme/app:1", host+"/acme/app:2")
	submit := func(dst string, more ...string) (int, string, string) {
		return lithify(t, append([]string{"submit", "convert", "--wait", "--insecure", "--api", api, host + "/acme/app:1", host + dst}, more...)...)
	}
	t.Setenv("LITHIFY_CONTEXT", filepath.Join(t.TempDir(), "none")) // there is no pool but through the API

	t.Run("token of the environment", func(t *testing.T) {
		t.Setenv("LITHIFY_TOKEN", ci.Token(nil))
		code, there, stderr := submit("/acme/app:3")
		if _, digest, _ := strings.Cut(here, "@"); code != 0 || !strings.HasSuffix(there, "/acme/app:3@"+digest) {
			t.Errorf("exit code %d, %q, here %q: %s", code, there, here, stderr)
		}
		if code, _, stderr := submit("/other/app:3"); code != 4 || !strings.Contains(stderr, "write "+host+"/other/app") {
			t.Errorf("not granted: exit code %d: %s", code, stderr)
		}
	})
	t.Run("token of a file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(file, []byte(ci.Token(nil)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, _, stderr := submit("/acme/app:4", "--token-file", file); code != 0 {
			t.Errorf("exit code %d: %s", code, stderr)
		}
	})
	t.Run("token of GitHub Actions", func(t *testing.T) {
		github := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer runner" || r.URL.Query().Get("audience") != consoletest.Audience {
				http.Error(w, "no", http.StatusForbidden)
				return
			}
			json.NewEncoder(w).Encode(map[string]string{"value": ci.Token(nil)})
		}))
		defer github.Close()
		t.Setenv("ACTIONS_ID_TOKEN_REQUEST_URL", github.URL+"/?api-version=2.0")
		t.Setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "runner")
		if code, _, stderr := submit("/acme/app:5", "--audience", consoletest.Audience); code != 0 {
			t.Errorf("exit code %d: %s", code, stderr)
		}
		t.Setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "another")
		if code, _, stderr := submit("/acme/app:6", "--audience", consoletest.Audience); code != 4 {
			t.Errorf("refused by GitHub: exit code %d: %s", code, stderr)
		}
	})
	if code, _, stderr := submit("/acme/app:7"); code != 2 || !strings.Contains(stderr, "LITHIFY_TOKEN") {
		t.Errorf("no token: exit code %d: %s", code, stderr)
	}
	if code, _, stderr := submit("/acme/app:7", "--api", "http://lithify.example.com"); code != 2 || !strings.Contains(stderr, "https") {
		t.Errorf("token in the clear: exit code %d: %s", code, stderr)
	}
}

func TestConsoleFlags(t *testing.T) {
	servePool(t)
	empty := filepath.Join(t.TempDir(), "console.yaml")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for says, args := range map[string][]string{
		"--config is required": {},
		"go together":          {"--config", empty, "--http-cert", "x"},
		"in the clear":         {"--config", empty, "--http", "0.0.0.0:0"},
		"/none":                {"--config", "/none"},
	} {
		code, _, stderr := lithify(t, append([]string{"console"}, args...)...)
		if want := map[bool]int{true: 4, false: 2}[says == "/none"]; code != want || !strings.Contains(stderr, says) {
			t.Errorf("%v: exit code %d: %s", args, code, stderr)
		}
	}
}
