//go:build linux

package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRunScript has run.sh test a module of two packages, one of which knows
// -test.root, and so run go test twice.
func TestRunScript(t *testing.T) {
	const (
		passes  = "package p\nimport \"testing\"\nfunc TestA(*testing.T) {}\n"
		fails   = "package p\nimport \"testing\"\nfunc TestA(t *testing.T) { t.Error(\"no\") }\n"
		noBuild = "package p\nfunc f() { undefined() }\n"
		killsGo = "package p\nimport (\"os\"; \"syscall\"; \"testing\")\nfunc TestA(*testing.T) { syscall.Kill(os.Getppid(), syscall.SIGKILL); os.Exit(0) }\n"
		rooted  = "package p\nimport (\"flag\"; \"testing\")\nvar _ = flag.Bool(\"test.root\", false, \"\")\nfunc TestB(*testing.T) {}\n"
	)
	for name, tc := range map[string]struct {
		plain string
		args  []string
		ok    bool
		want  string
	}{
		"both halves pass":              {plain: passes, ok: true, want: "2 passed, 0 failed, 0 skipped"},
		"a test fails":                  {plain: fails, want: "1 passed, 1 failed, 0 skipped"},
		"a package does not build":      {plain: noBuild, want: "FAILED example.com/m/plain"},
		"no such package":               {plain: passes, args: []string{"./plain", "./absent"}, want: "absent"},
		"a package that cannot be read": {plain: "pakage p\n", want: "pakage"},
		"go test refuses a flag":        {plain: passes, args: []string{"-count=x"}, want: "invalid"},
		// Whether go had passed on that TestA began is a matter of luck.
		"go itself is killed": {plain: killsGo, want: "FAILED example.com/m/plain"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, dir, "go.mod", "module example.com/m\n\ngo 1.26\n")
			write(t, dir, "plain/p_test.go", tc.plain)
			write(t, dir, "rooted/p_test.go", rooted)
			for _, file := range []string{"run.sh", "summary/main.go", "summary/summary.go"} {
				raw, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				write(t, dir, filepath.Join("test", file), string(raw))
			}
			cmd := exec.CommandContext(t.Context(), "bash", append([]string{filepath.Join(dir, "test/run.sh")}, tc.args...)...)
			out, err := cmd.CombinedOutput()
			if (err == nil) != tc.ok {
				t.Errorf("got error %v, want success %v", err, tc.ok)
			}
			if !strings.Contains(string(out), tc.want) {
				t.Errorf("got:\n%s\nwant in it: %s", out, tc.want)
			}
		})
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
