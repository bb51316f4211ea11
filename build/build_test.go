package build_test

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/build"
)

var asRoot = flag.Bool("test.root", false, "run the tests that start a buildkitd")

func TestValidate(t *testing.T) {
	valid := build.Request{Context: ".", Repository: "reg.example.com/app"}
	for name, tc := range map[string]struct {
		change func(*build.Request)
		says   string // nothing: it is valid
	}{
		"least":                             {func(r *build.Request) {}, ""},
		"git":                               {func(r *build.Request) { r.Context = "https://example.com/app.git#v1:sub" }, ""},
		"ssh":                               {func(r *build.Request) { r.Context = "ssh://git@example.com/app.git" }, ""},
		"all":                               {func(r *build.Request) { r.Attest = []string{"type=provenance,mode=max"}; r.SSH = []string{"default"} }, ""},
		"no context":                        {func(r *build.Request) { r.Context = "" }, "a context is required"},
		"broken":                            {func(r *build.Request) { r.Context = "https://me:hunter2%zz@example.com/app.git" }, "no URL"},
		"broken port":                       {func(r *build.Request) { r.Context = "https://me:hunter2@example.com:port/app.git#main" }, "no URL"},
		"broken ssh":                        {func(r *build.Request) { r.Context = "ssh://git:hunter2%zz@example.com/app.git" }, "no URL"},
		"password in what is no repository": {func(r *build.Request) { r.Context = "https://me:hunter2@example.com/app.git?nope=1" }, "GIT_AUTH_TOKEN"},
		"password":                          {func(r *build.Request) { r.Context = "https://me:hunter2@example.com/app.git" }, "GIT_AUTH_TOKEN"},
		"token":                             {func(r *build.Request) { r.Context = "https://hunter2@example.com/app.git" }, "GIT_AUTH_TOKEN"},
		"no git":                            {func(r *build.Request) { r.Context = "https://example.com/app.tgz" }, "no Git repository"},
		"tag":                               {func(r *build.Request) { r.Repository = "reg.example.com/app:1" }, "reg.example.com/app:1"},
		"argument":                          {func(r *build.Request) { r.Args = map[string]string{"": "x"} }, "NAME=VALUE"},
		"frontend":                          {func(r *build.Request) { r.Args = map[string]string{"BUILDKIT_SYNTAX": "x"} }, "frontend"},
		"platform":                          {func(r *build.Request) { r.Platforms = []string{"a/b/c/d"} }, "a/b/c/d"},
		"network":                           {func(r *build.Request) { r.Network = "host" }, "host"},
		"compression":                       {func(r *build.Request) { r.Compression = "xz" }, "xz"},
		"scanner":                           {func(r *build.Request) { r.Network = "none"; r.Attest = []string{"type=sbom"} }, "SBOM"},
		"epoch":                             {func(r *build.Request) { r.Epoch = time.Unix(-1, 0) }, "1970"},
		"attest":                            {func(r *build.Request) { r.Attest = []string{"type=praise"} }, "praise"},
		"builder":                           {func(r *build.Request) { r.Builder = "urn:us"; r.Attest = []string{"type=provenance,builder-id=urn:me"} }, "urn:us"},
		"cache":                             {func(r *build.Request) { r.CacheFrom = []string{"reg.example.com/cache"} }, "type=registry"},
		"cache type":                        {func(r *build.Request) { r.CacheTo = []string{"type=registry,oops"} }, "oops"},
	} {
		t.Run(name, func(t *testing.T) {
			r := valid
			tc.change(&r)
			err := r.Validate()
			if tc.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%v, want an invalid argument, a word about %s and no password", err, tc.says)
			}
		})
	}
}

func startDaemon(t *testing.T) *build.Daemon {
	t.Helper()
	if !*asRoot || os.Geteuid() != 0 {
		t.Skip("needs root and -test.root")
	}
	for _, program := range []string{"buildkitd", "runc"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("no %s: run test/tools/install.sh", program)
		}
	}
	root, err := os.MkdirTemp("/var/tmp", "lithify") // a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	d, err := build.StartDaemon(t.Context(), build.DaemonConfig{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// TestContextLimits: what .dockerignore leaves out is not sent and does not count; what is
// over the limit ends the build with an error that names it.
func TestContextLimits(t *testing.T) {
	d := startDaemon(t)
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// Nobody listens where it is pushed to: that far it gets where the limits allow it.
	request := build.Request{Context: dir, Repository: "127.0.0.1:1/app", Limits: build.Limits{Bytes: 4096, Entries: 8}}
	write("Dockerfile", "FROM scratch\nCOPY . /\n")
	write(".dockerignore", "ignored\n")
	write("ignored/big", strings.Repeat("x", 8192))
	for i := range 20 {
		write(fmt.Sprintf("ignored/many/%d", i), "")
	}
	built := func() string {
		t.Helper()
		_, err := build.Engine{Address: d.Address()}.Build(t.Context(), request, nil)
		return fmt.Sprint(err)
	}
	if got := built(); !strings.Contains(got, "127.0.0.1:1") {
		t.Errorf("%s, want it to get as far as the push", got)
	}
	write("big", strings.Repeat("x", 8192))
	if got := built(); !strings.Contains(got, "4096 bytes (at big)") {
		t.Errorf("%s, want a refusal that names big", got)
	}
	if err := os.Remove(filepath.Join(dir, "big")); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		write(fmt.Sprintf("many/%d", i), "")
	}
	if got := built(); !strings.Contains(got, "8 entries (at many") {
		t.Errorf("%s, want a refusal that names many", got)
	}
}

// TestDaemonsTakeTurns: a root directory is one daemon's at a time, and the next one finds
// what the first has left.
func TestDaemonsTakeTurns(t *testing.T) {
	first := startDaemon(t)
	root := filepath.Dir(strings.TrimPrefix(first.Address(), "unix://"))
	type started struct {
		d   *build.Daemon
		err error
	}
	second, waits := make(chan started, 1), make(chan struct{})
	go func() {
		log := slog.New(slog.NewTextHandler(writer(func(p []byte) {
			if strings.Contains(string(p), "waiting for another build") {
				close(waits)
			}
		}), nil))
		d, err := build.StartDaemon(t.Context(), build.DaemonConfig{Root: root, Log: log})
		second <- started{d, err}
	}()
	select {
	case <-waits:
	case s := <-second:
		t.Fatalf("two have one root directory: %v", s.err)
	}
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	s := <-second
	if s.err != nil {
		t.Fatal(s.err)
	}
	if err := s.d.Stop(); err != nil {
		t.Error(err)
	}
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}

func TestNoDaemonThere(t *testing.T) {
	_, err := build.Engine{Address: "unix:///nowhere.sock"}.Build(t.Context(), build.Request{Context: writeDockerfile(t), Repository: "127.0.0.1:1/app"}, nil)
	if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "/nowhere.sock") {
		t.Errorf("%v, want an unavailable error that names the address", err)
	}
}

// TestSecrets: a secret that is not there is found out before the daemon is asked, and is
// not an empty one.
func TestSecrets(t *testing.T) {
	dir := writeDockerfile(t)
	t.Setenv("SET", "")
	for spec, want := range map[string]struct {
		is   func(error) bool
		says string
	}{
		"id=a,src=/nowhere":       {errdefs.IsNotFound, "secret a: stat /nowhere"},
		"id=a":                    {errdefs.IsNotFound, "secret a: stat a"},
		"id=a,env=NOT_SET_AT_ALL": {errdefs.IsInvalidArgument, "$NOT_SET_AT_ALL is not set"},
		"id=a,src=" + dir:         {errdefs.IsInvalidArgument, "is no file"},
		"src=/etc/hostname":       {errdefs.IsInvalidArgument, "id=ID"},
		"id=a,what=b":             {errdefs.IsInvalidArgument, "id=ID"},
		"type=env,id=a,src=SET":   {errdefs.IsUnavailable, "/nowhere.sock"}, // that far it gets
		"id=SET":                  {errdefs.IsUnavailable, "/nowhere.sock"},
	} {
		_, err := build.Engine{Address: "unix:///nowhere.sock"}.Build(t.Context(), build.Request{Context: dir, Repository: "127.0.0.1:1/app", Secrets: []string{spec}}, nil)
		if !want.is(err) || !strings.Contains(err.Error(), want.says) {
			t.Errorf("%s: %v, want a word about %s", spec, err, want.says)
		}
	}
}

func writeDockerfile(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}
