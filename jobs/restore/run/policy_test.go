package run_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/jobs"
	restorejob "github.com/lithify/lithify/jobs/restore"
	"github.com/lithify/lithify/jobs/restore/run"
)

// What a worker does not let a checkpoint become is refused before anybody is asked for
// anything: neither the registry nor containerd of these jobs is there.
func TestPolicy(t *testing.T) {
	const web, mine = "r.example.com/saved/web:1", "--restore-from=r.example.com/saved/"
	const base = "r.example.com/base@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	mount := func(source string) []restorejob.Mount {
		return []restorejob.Mount{{Source: source, Target: "/x"}}
	}
	for _, tc := range []struct {
		name   string
		flags  []string
		args   restorejob.Args
		denied string // the flag that the error names
	}{
		{"below a repository", []string{mine}, restorejob.Args{Source: web}, ""},
		{"the repository", []string{"--restore-from=a.example.com/b,r.example.com/saved/web"}, restorejob.Args{Source: web}, ""},
		{"any", []string{"--restore-from=*"}, restorejob.Args{Source: web}, ""},
		{"another", []string{mine}, restorejob.Args{Source: "r.example.com/savedby/me:1"}, "--restore-from"},
		{"a repository is not those below", []string{"--restore-from=r.example.com/saved"}, restorejob.Args{Source: web}, "--restore-from"},
		{"a file", []string{mine}, restorejob.Args{Source: "oci:/r.example.com/saved/web"}, "--restore-from"},
		{"network", []string{mine}, restorejob.Args{Source: web, Network: "host"}, "--restore-host-network"},
		{"network allowed", []string{mine, "--restore-host-network"}, restorejob.Args{Source: web, Network: "host"}, ""},
		{"network from CNI", []string{mine}, restorejob.Args{Source: web, Network: "cni"}, "--restore-cni"},
		{"network from CNI allowed", []string{mine, "--restore-cni"}, restorejob.Args{Source: web, Network: "cni"}, ""},
		{"another base", []string{mine}, restorejob.Args{Source: web, Base: base}, ""},
		{"another base of what is signed", []string{mine, "--restore-key=" + publicKey(t)}, restorejob.Args{Source: web, Base: base}, "--restore-key"},
		{"mount", []string{mine}, restorejob.Args{Source: web, Mounts: mount("/srv")}, "--restore-mounts"},
		{"mount allowed", []string{mine, "--restore-mounts=/etc/hosts,/srv"}, restorejob.Args{Source: web, Mounts: mount("/srv/web")}, ""},
		{"mount beside", []string{mine, "--restore-mounts=/srv"}, restorejob.Args{Source: web, Mounts: mount("/srv/../etc")}, "--restore-mounts"},
		{"mount of a like name", []string{mine, "--restore-mounts=/srv"}, restorejob.Args{Source: web, Mounts: mount("/srv2")}, "--restore-mounts"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := handler(t, tc.flags...)
			tc.args.Name = "web-2"
			_, err := h.Run(t.Context(), tc.args)
			if got := errdefs.IsPermissionDenied(err); got != (tc.denied != "") || !strings.Contains(err.Error(), tc.denied) {
				t.Errorf("got %v, want denied by %q", err, tc.denied)
			}
		})
	}
}

func handler(t *testing.T, flags ...string) *run.Handler {
	t.Helper()
	var c run.Config
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	c.AddFlags(fs)
	if err := fs.Parse(flags); err != nil {
		t.Fatal(err)
	}
	h, err := c.Handler("/nonexistent/containerd.sock")
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func publicKey(t *testing.T) string {
	t.Helper()
	key, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return written(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
}

func written(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// rules are a policy of which each test's job is one.
const rules = `version: 1
rules:
- name: web
  tenants: [web, web-*]
  from: [r.example.com/saved/web]
  namespaces: [default, web]
  names: [web-*]
  networks: [none, cni]
  mounts: [/srv/web]
  secrets: [web-*]
- name: plain
  tenants: [web, other]
  from: [r.example.com/saved/]
- name: ops
  tenants: ["*"]
  from: [r.example.com/ops/]
  any_base: true
`

func TestPolicyFile(t *testing.T) {
	const web, db, ops = "r.example.com/saved/web:1", "r.example.com/saved/db:1", "r.example.com/ops/x:1"
	h := handler(t, "--restore-policy="+written(t, "policy.yaml", rules))
	for _, tc := range []struct {
		name, tenant string
		args         restorejob.Args
		denied       []string // by which field of which rule
	}{
		{"all of it", "web-7", restorejob.Args{Source: web, Name: "web-2", Namespace: "web", Network: "cni",
			Mounts: []restorejob.Mount{{Source: "/srv/web/a", Target: "/a"}}}, nil},
		{"another's repository", "web-7", restorejob.Args{Source: db, Name: "web-2"}, []string{"no rule", db, "tenant web-7"}},
		{"another tenant", "shop", restorejob.Args{Source: web, Name: "web-2"}, []string{"no rule", web, "tenant shop"}},
		{"no tenant", "", restorejob.Args{Source: web, Name: "web-2"}, []string{"no rule", "tenant default"}},
		{"no tenant, and a rule for all", "", restorejob.Args{Source: ops, Name: "x"}, nil},
		{"a base where it may", "", restorejob.Args{Source: ops, Name: "x", Base: "r.example.com/b@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}, nil},
		{"the second rule", "web", restorejob.Args{Source: db, Name: "db"}, nil},
		{"the first rule decides", "web", restorejob.Args{Source: web, Name: "db"}, []string{"names of rule web", "db"}},
		{"namespace", "web", restorejob.Args{Source: web, Name: "web-2", Namespace: "k8s.io"}, []string{"namespaces of rule web", "k8s.io"}},
		{"network", "web", restorejob.Args{Source: web, Name: "web-2", Network: "host"}, []string{"networks of rule web", "host"}},
		{"mount", "web", restorejob.Args{Source: web, Name: "web-2", Mounts: []restorejob.Mount{{Source: "/srv/web2", Target: "/a"}}}, []string{"mounts of rule web", "/srv/web2"}},
		{"secret", "web", restorejob.Args{Source: web, Name: "web-2", Secrets: []string{"web-1", "db-1"}}, []string{"secrets of rule web", "db-1"}},
		{"base", "web", restorejob.Args{Source: web, Name: "web-2", Base: "r.example.com/b@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}, []string{"any_base of rule web"}},
		{"namespace by default", "other", restorejob.Args{Source: db, Name: "db", Namespace: "web"}, []string{"namespaces of rule plain"}},
		{"network by default", "other", restorejob.Args{Source: db, Name: "db", Network: "cni"}, []string{"networks of rule plain"}},
		{"secret by default", "other", restorejob.Args{Source: db, Name: "db", Secrets: []string{"x"}}, []string{"secrets of rule plain"}},
		{"a file", "web", restorejob.Args{Source: "oci:/saved/web", Name: "web-2"}, []string{"no rule"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := h.Run(jobs.WithTenant(t.Context(), tc.tenant), tc.args)
			if got := errdefs.IsPermissionDenied(err); got != (tc.denied != nil) {
				t.Fatalf("got %v, want denied by %q", err, tc.denied)
			}
			for _, want := range tc.denied {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want it to say %q", err, want)
				}
			}
		})
	}
}

// What is wrong with a policy keeps the worker from starting.
func TestPolicyFileRefused(t *testing.T) {
	for name, tc := range map[string]struct{ old, new, want string }{
		"nothing":      {rules, "", "version 0"},
		"version":      {"version: 1", "version: 2", "version 2"},
		"no version":   {"version: 1\n", "", "version 0"},
		"no rules":     {rules, "version: 1\n", "no rules"},
		"unknown":      {"any_base", "anybase", "anybase"},
		"two":          {"  any_base: true\n", "---\nversion: 1\n", "second document"},
		"no name":      {"name: plain", "name: ''", "rule 2"},
		"name twice":   {"name: plain", "name: web", "rule 2"},
		"no tenants":   {"tenants: [web, other]", "tenants: []", "rule plain: it is for nobody"},
		"no source":    {"from: [r.example.com/saved/]", "from: []", "rule plain: it is for no checkpoints"},
		"empty source": {"from: [r.example.com/saved/]", "from: ['']", "rule plain: from"},
		"network":      {"networks: [none, cni]", "networks: [bridge]", "bridge"},
		"mount":        {"/srv/web", "srv/web", "absolute"},
		"pattern":      {"names: [web-*]", "names: ['[']", "rule web: pattern"},
		"empty keys":   {"any_base: true", "keys: []", "rule ops: keys"},
		"no key":       {"any_base: true", "keys: [nowhere.pem]", "nowhere.pem"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(rules, tc.old, tc.new, 1)
			file := written(t, "policy.yaml", text)
			if _, err := run.LoadPolicy(file); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), file) {
				t.Errorf("got %v, want an error with %q and the file's name", err, tc.want)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	for want, flags := range map[string][]string{
		"need --containerd": {"--restore-from=*"},
		"leave out":         {"--restore-policy=x", "--restore-cni"},
		"empty name":        {"--restore-from=a,"},
		"absolute paths":    {"--restore-from=*", "--restore-mounts=srv"},
	} {
		var c run.Config
		fs := flag.NewFlagSet("", flag.ContinueOnError)
		fs.SetOutput(io.Discard)
		c.AddFlags(fs)
		if err := fs.Parse(flags); err != nil {
			t.Fatal(err)
		}
		address := "/run/c.sock"
		if strings.Contains(want, "containerd") {
			address = ""
		}
		if _, err := c.Handler(address); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want an error with %q", flags, err, want)
		}
	}
	if h, err := (run.Config{}).Handler(""); h != nil || err != nil {
		t.Errorf("without repositories: %v, %v, want nothing", h, err)
	}
}
