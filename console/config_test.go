package console_test

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestLoad(t *testing.T) {
	good := config("https://ci.example.com")
	if _, err := load(t, good); err != nil {
		t.Fatal(err)
	}
	if _, err := load(t, ""); err != nil {
		t.Errorf("empty: %v", err)
	}
	for name, tc := range map[string]struct{ old, new, says string }{
		"unknown field":       {"audience:", "audiance:", "audiance"},
		"no secret":           {"secret_files: [secret, new]", "", "secret_files"},
		"unknown host":        {"host: github", "host: svn", `"svn"`},
		"no audience":         {"audience: https://lithify.example.com", "", "audience"},
		"issuer in the clear": {"https://ci.example.com", "http://ci.example.com", "https://"},
		"no claims":           {"claims: {repository: acme/*, ref: refs/heads/main}", "", "grant 1: without claims"},
		"unknown variable":    {"$short", "$shrt", "$shrt"},
		"unknown argument":    {"target: registry", "tarjet: registry", "tarjet"},
		"unknown kind":        {"kind: convert", "kind: konvert", "konvert"},
		"pattern":             {"refs/heads/**", "refs/**/x", "refs/**/x"},
		"pattern of path":     {"repository: acme/*\n", "repository: acme/[\n", "acme/["},
		"no tenant":           {"    tenant: acme\n    priorities", "    priorities", "tenant"},
		"kind of a grant":     {"kinds: [convert, build]", "kinds: [konvert]", "konvert"},
		"tenant":              {"tenant: acme\n      timeout", "tenant: 'a b'\n      timeout", "a b"},
		"no YAML":             {"hooks:", "hooks", "console.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(good, tc.old, tc.new, 1)
			if text == good {
				t.Fatal("nothing is wrong with it")
			}
			if _, err := load(t, text); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}
