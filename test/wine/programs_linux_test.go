package wine_test

import (
	"bytes"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/lithify/lithify/convert"
	lithifyregistry "github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/jobs/all"
	convertjob "github.com/lithify/lithify/jobs/convert"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/natsd"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/test/corpus"
	"github.com/lithify/lithify/test/wine"
)

// Our own programs, and what they make of an image: the same as on Linux.
func TestPrograms(t *testing.T) {
	t.Parallel()
	p := wine.New(t)
	source, want := oddImage(t)
	t.Run("convert", func(t *testing.T) { testConvert(t, p, source, want) })
	t.Run("worker", func(t *testing.T) { testWorker(t, p, source, want) })
	t.Run("serve", func(t *testing.T) { testServe(t, p, source) })
	t.Run("service", func(t *testing.T) { testService(t, p, source, want) })
	t.Run("doctor", func(t *testing.T) { testDoctor(t, p) })
}

// oddImage is one of every kind of entry, whose config does not say for which system it is,
// in a registry, and the digest of what it becomes here.
func oddImage(t *testing.T) (ref, converted string) {
	t.Helper()
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(s.Close)
	ref = strings.TrimPrefix(s.URL, "http://") + "/odd:1"
	var tar bytes.Buffer
	if err := corpus.WriteOdd(&tar); err != nil {
		t.Fatal(err)
	}
	image, err := corpus.Image(v1.Platform{Architecture: "amd64"}, nil, static.NewLayer(tar.Bytes(), types.OCIUncompressedLayer))
	if err != nil {
		t.Fatal(err)
	}
	if err := crane.Push(image, ref, crane.Insecure); err != nil {
		t.Fatal(err)
	}
	src, err := lithifyregistry.Open(ref, lithifyregistry.Options{Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	dst, err := lithifyregistry.Create(ref+"-linux", lithifyregistry.Options{Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := convert.Image(t.Context(), src, dst, convert.Options{TempDir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	if converted, err = crane.Digest(ref+"-linux", crane.Insecure); err != nil {
		t.Fatal(err)
	}
	return ref, converted
}

const (
	lithify = "github.com/lithify/lithify/cmd/lithify"
	worker  = "github.com/lithify/lithify/cmd/worker"
)

// No platform is named, and nothing is left in the folder for temporary files.
func testConvert(t *testing.T, p *wine.Prefix, source, want string) {
	temp := t.TempDir()
	out := output(t, p.Command(t.Context(), p.Program(t, "lithify", lithify), []string{"TEMP=" + wine.Path(temp), "TMP=" + wine.Path(temp)},
		"convert", "--insecure", "--ledger-repo", "", source, source+"-windows"))
	if _, got, _ := strings.Cut(out, "@"); got != want {
		t.Errorf("on Windows it becomes %s, on Linux %s", got, want)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// startQueue starts a queue on Linux, of which context is the context file.
func startQueue(t *testing.T) (server *natsd.Server, client *queue.Client, context string) {
	t.Helper()
	dir := t.TempDir()
	context = filepath.Join(dir, "context.json")
	server, err := natsd.Start(natsd.Config{Dir: filepath.Join(dir, "queue"), ContextFile: context})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	client, err = queue.Connect(t.Context(), server.Client())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if err := client.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	return server, client, context
}

// schedule runs a scheduler.
func schedule(t *testing.T, client *queue.Client) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- scheduler.New(client, all.Validators(), scheduler.Config{}).Run(t.Context()) }()
	t.Cleanup(func() { <-ended })
}

// A worker takes jobs of a pool on Linux.
func testWorker(t *testing.T, p *wine.Prefix, source, want string) {
	_, client, context := startQueue(t)
	schedule(t, client)

	// The context file names the key by a path of Linux, which is the same one from drive Z:.
	start(t, p.Command(t.Context(), p.Program(t, "worker", worker), []string{"LITHIFY_CONTEXT=" + wine.Path(context)}, "--slots", "1"), "host checked")
	job, err := jobs.New(convertjob.Args{Source: source, Output: convertjob.Output{Target: source + "-job", Insecure: true}}, jobs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Submit(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	if st, err := client.Wait(t.Context(), job.ID); err != nil || st.State != jobs.Done {
		t.Fatalf("%v: %+v", err, st)
	}
	if got, err := crane.Digest(source+"-job", crane.Insecure); err != nil || got != want {
		t.Errorf("on Windows it becomes %s, on Linux %s: %v", got, want, err)
	}
}

// A pool outlives its process: what was submitted is there again.
func testServe(t *testing.T, p *wine.Prefix, source string) {
	dir := t.TempDir()
	exe := p.Program(t, "lithify", lithify)
	env := []string{"LITHIFY_CONTEXT=" + wine.Path(filepath.Join(dir, "context.json"))}
	serve := func() *exec.Cmd {
		return p.Command(t.Context(), exe, env, "serve", "--slots", "0", "--dir", wine.Path(filepath.Join(dir, "queue")))
	}
	kill := start(t, serve(), "pool up")
	id := output(t, p.Command(t.Context(), exe, env, "submit", "convert", "--insecure", source, source+"-later"))
	if out, err := serve().CombinedOutput(); err == nil || !strings.Contains(string(out), "in use by another server") {
		t.Errorf("a second server: %v, %s", err, out)
	}
	kill()
	start(t, serve(), "pool up")
	if got := output(t, p.Command(t.Context(), exe, env, "jobs", "list")); !strings.Contains(got, id) {
		t.Errorf("no job %s: %s", id, got)
	}
}

// output is what a program that succeeds says.
func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	return strings.TrimSpace(string(out))
}

// Tests of what our packages do otherwise on Windows, one in the short lane.
func TestPackages(t *testing.T) {
	t.Parallel()
	p := wine.New(t)
	tests := map[string]string{"queue": "TestStaleContext"}
	if !testing.Short() {
		tests["queue/natsd"] = "."
		tests["cimfs"] = "TestWriters"
		tests["cmd/worker"] = "."
		tests["convert"] = "TestCIMDir|TestTempFile"
		tests["convert/registry"] = "TestAbsolute"
		tests["convert/stack"] = "TestAbandoned"
	}
	for pkg, run := range tests {
		t.Run(pkg, func(t *testing.T) { p.Test(t, "github.com/lithify/lithify/"+pkg, "-test.short", "-test.run", run) })
	}
}
