//go:build linux

package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.yaml.in/yaml/v3"

	"github.com/lithify/lithify/console"
	"github.com/lithify/lithify/console/consoletest"
)

const hookSecret = "a secret of the Git host"

// startConsole serves a pool's API by what its rules say, with %[1]s for the registry and
// %[2]s for the issuer.
func (b *buildPool) startConsole(t *testing.T, issuer *consoletest.Provider) (url string) {
	t.Helper()
	dir := t.TempDir()
	config := fmt.Sprintf(`
hooks:
- name: hub
  host: github
  secret_files: [secret]
  rules:
  - repository: acme/*
    ref: refs/heads/main
    submit:
      kind: build
      args:
        context: $url#$commit:sub
        target: %[1]s/$repository:$name
issuers:
- url: %[2]s
  audience: %[3]s
  grants:
  - claims: {repository: acme/app, ref: refs/heads/main}
    kinds: [build]
    reads: ["127.0.0.1:*/app.git"]
    writes: [%[1]s/acme/*]
    tenant: acme
`, b.registry, issuer.URL, consoletest.Audience)
	for name, text := range map[string]string{"console.yaml": config, "secret": hookSecret} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, b.pool.command(t, lithify(t), "console", "--config", filepath.Join(dir, "console.yaml"), "--http", "127.0.0.1:0"))
	return "http://" + p.says(t, "address", func(line string) (string, bool) { return strings.CutPrefix(line, "console up at ") })
}

// TestPushBuilds: what somebody pushes to a Git host is an image with its variant, built of
// that commit.
func TestPushBuilds(t *testing.T) {
	b := startBuildPool(t)
	url := b.startConsole(t, consoletest.New(t))
	repo, commit := gitServer(t, b.context("FROM scratch\nCOPY f /f\n", "f", "pushed"))
	body := fmt.Sprintf(`{"ref":"refs/heads/main","after":%q,"repository":{"full_name":"acme/app","clone_url":%q},"pusher":{"name":"ann"}}`, commit, repo)
	resp := consoletest.Push(t, url+"/hooks/hub", hookSecret, body)
	defer resp.Body.Close()
	var a console.Accepted
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil || len(a.Jobs) != 1 {
		t.Fatalf("%s: %+v, %v", resp.Status, a, err)
	}
	b.pool.output(t, "jobs", "watch", string(a.Jobs[0]))
	if n := len(manifest[ocispec.Index](t, b.registry+"/acme/app:main").Manifests); n != 2 {
		t.Errorf("the index has %d manifests, want the image and its variant", n)
	}
}

// ciScript is what an example of deploy/ci has a CI job run, where its environment has
// been checked out. Expressions of the CI system are replaced.
func ciScript(t *testing.T, file string, find func(doc map[string]any) any, expressions *strings.Replacer) string {
	t.Helper()
	var doc map[string]any
	if err := yaml.Unmarshal([]byte(read(t, "../../deploy/ci/"+file)), &doc); err != nil {
		t.Fatal(err)
	}
	script, ok := find(doc).(string)
	if !ok || !strings.Contains(script, "lithify submit build") {
		t.Fatalf("%s: no script that builds", file)
	}
	script = expressions.Replace(script)
	if left := regexp.MustCompile(`\$\(|\$?\{\{`).FindString(script); left != "" {
		t.Fatalf("%s: %s is not known here", file, left)
	}
	return script
}

// at follows names and numbers into a document.
func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

// TestCIExamples runs what the examples of deploy/ci tell CI systems to run, with tokens as
// these make them.
func TestCIExamples(t *testing.T) {
	b, ci := startBuildPool(t), consoletest.New(t)
	api := b.startConsole(t, ci)
	dir := b.context("FROM scratch\nCOPY f /f\n", "f", "checked out")
	repo, commit := gitServer(t, dir)
	github := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer runner" && r.URL.Query().Get("audience") == consoletest.Audience {
			json.NewEncoder(w).Encode(map[string]string{"value": ci.Token(nil)})
		}
	}))
	defer github.Close()
	temp := t.TempDir()
	token := filepath.Join(temp, "token")
	if err := os.WriteFile(token, []byte(ci.Token(nil)), 0o600); err != nil {
		t.Fatal(err)
	}
	image := b.registry + "/acme/app"
	for _, tc := range []struct {
		file   string
		script func(doc map[string]any) any
		env    []string
		expr   []string
		tag    string
		left   string // a file that the job leaves, which names the digest
	}{
		{"github-actions.yaml", func(doc map[string]any) any { return at(doc, "jobs", "image", "steps", 3, "run") },
			[]string{"ACTIONS_ID_TOKEN_REQUEST_URL=" + github.URL + "/?v=2", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=runner", "IMAGE=" + image, "GITHUB_SHA=" + commit,
				"GITHUB_REPOSITORY=acme/app", "GITHUB_RUN_ID=1", "GITHUB_RUN_ATTEMPT=1"}, nil, commit, "image.json"},
		{"gitlab-ci.yaml", func(doc map[string]any) any { return at(doc, "image", "script", 0) },
			[]string{"LITHIFY_TOKEN=" + ci.Token(nil), "IMAGE=" + image, "CI_COMMIT_SHA=gitlab-" + commit, "CI_PROJECT_PATH=acme/app", "CI_JOB_ID=2"}, nil,
			"gitlab-" + commit, "image.json"},
		{"tekton.yaml", func(doc map[string]any) any { return at(doc, "spec", "steps", 0, "script") },
			[]string{"IMAGE=" + image + ":tekton"}, []string{"$(context.taskRun.uid)", "3", "$(results.digest.path)", filepath.Join(temp, "digest"), "/var/run/lithify/token", token},
			"tekton", filepath.Join(temp, "digest")},
		{"argo.yaml", func(doc map[string]any) any { return at(doc, "spec", "templates", 0, "script", "source") },
			[]string{"CONTEXT=" + repo + "#" + commit + ":sub", "IMAGE=" + image + ":argo"}, []string{"{{workflow.uid}}", "4", "/tmp/ref", filepath.Join(temp, "ref"), "/var/run/lithify/token", token},
			"argo", filepath.Join(temp, "ref")},
	} {
		t.Run(tc.file, func(t *testing.T) {
			cmd := b.pool.command(t, "sh", "-ec", ciScript(t, tc.file, tc.script, strings.NewReplacer(tc.expr...)))
			cmd.Dir = dir
			cmd.Env = append(cmd.Env, "PATH="+filepath.Dir(lithify(t))+":"+os.Getenv("PATH"), "LITHIFY_API="+api, "LITHIFY_AUDIENCE="+consoletest.Audience, "HOME="+temp)
			cmd.Env = append(cmd.Env, tc.env...)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			digest := strings.TrimSpace(output(t, need(t, "crane"), "digest", "--insecure", image+":"+tc.tag))
			left := tc.left
			if !filepath.IsAbs(left) {
				left = filepath.Join(dir, left)
			}
			if said := read(t, left); !strings.Contains(said, digest) {
				t.Errorf("%s says %q, the tag names %s", left, said, digest)
			}
		})
	}
}
