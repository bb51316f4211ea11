//go:build linux

package e2e_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lithify/lithify/build"
	"github.com/lithify/lithify/jobs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// buildPool has a worker that converts and one that builds, with one secret.
type buildPool struct {
	*pool
	*builder
	worker *process
	// Files of the pool's key, which its workers have, and of what verifies it.
	key, public string
}

func startBuildPool(t *testing.T) *buildPool {
	t.Helper()
	b := &buildPool{builder: startBuilder(t), pool: startPool(t, 0)}
	secrets := t.TempDir()
	if err := os.WriteFile(filepath.Join(secrets, "token"), []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	b.key, b.public = signingKey(t)
	b.pool.worker(t, "converter", "--ledger-key", b.key)
	b.worker, _ = b.pool.worker(t, "builder", "--kinds", "build", "--verbose", "--buildkit-root", b.root, "--build-secrets", secrets, "--ledger-key", b.key)
	return b
}

// submit gives what lithify submit build prints and says, and its exit code.
func (b *buildPool) submit(t *testing.T, context, name string, flags ...string) (stdout, stderr string, code int) {
	t.Helper()
	args := append([]string{"submit", "build", "--wait", "--progress", "plain", context, "-t", b.registry + "/" + name}, flags...)
	var out, said strings.Builder
	cmd := b.pool.command(t, lithify(t), args...)
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), said.String(), cmd.ProcessState.ExitCode()
}

// TestBuildPool: a pool builds what lithify build does, to the byte, from a directory, an
// archive and a repository; its steps are seen while they run. The worker's secret is in
// nothing that the pool says or keeps.
func TestBuildPool(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	b := startBuildPool(t)
	dir := b.context(`FROM scratch
ADD base.tar /
RUN --mount=type=secret,id=token,required=true cat /run/secrets/token | wc -c > /length; cat /run/secrets/token; echo; echo step runs
COPY f Dockerfile* /
`, "f", "content", "left.out", "", ".dockerignore", "*.out\n")
	local := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(local, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	other := &builder{t, b.registry, shortDir(t)} // the pool has the first one's root directory
	want := other.build(dir, "app:here", "--secret", "id=token,src="+local)
	// As a context that was sent has no left.out and is root's, so has an archive.
	archive := filepath.Join(t.TempDir(), "context.tgz")
	output(t, "tar", "-C", dir, "--owner=0", "--group=0", "--exclude=left.out", "-czf", archive, ".")
	url, _ := gitServer(t, dir)
	metadata := filepath.Join(t.TempDir(), "metadata.json")
	var all strings.Builder
	for _, from := range []string{dir, archive, url + "#main:sub"} {
		got, said, code := b.submit(t, from, "app:pool", "--secret", "token", "--metadata-file", metadata)
		if code != 0 || digestOf(got) != digestOf(want) {
			t.Errorf("of %s: exit code %d, %s, want the digest of %s\n%s", from, code, got, want, tail(said))
		}
		if from == dir && !strings.Contains(said, " step runs") {
			t.Errorf("the step was not seen:\n%s", tail(said))
		}
		all.WriteString(said)
	}
	if !strings.Contains(read(t, metadata), digestOf(want)) {
		t.Errorf("the metadata file says %s", read(t, metadata))
	}
	if said := b.worker.said(); strings.Contains(said, "kind=convert") || strings.Contains(said, "kind=layer") {
		t.Error("who is to build alone has converted")
	}
	list := b.pool.output(t, "jobs", "list", "--output", "json")
	if strings.Count(list, `"state": "done"`) < 6 { // three builds and their conversions
		t.Errorf("jobs list: %s", list)
	}
	b.findsNot(password, all.String()+list+b.worker.said()+b.pool.server.said())
	err := filepath.WalkDir(b.pool.home, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.Contains(read(t, path), password) {
			t.Errorf("the secret is in %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestBuildSpread builds each platform by a job of its own, on two workers, of which the
// second one has no buildkitd of its own. A person may use that, too.
func TestBuildSpread(t *testing.T) {
	needs386(t)
	b := startBuildPool(t)
	socket := filepath.Join(b.root, "buildkitd.sock")
	await(t, "buildkitd", func(ctx context.Context) error { return build.Engine{Address: "unix://" + socket}.Ping(ctx) })
	b.pool.worker(t, "other", "--kinds", "build", "--buildkit", "unix://"+socket, "--ledger-key", b.key)
	dir := b.context("FROM scratch\nARG TARGETARCH\nCOPY for-$TARGETARCH /f\n", "for-amd64", "a", "for-386", "b")
	got, said, code := b.submit(t, dir, "app:1", "--spread", "--platform", "linux/386,linux/amd64", "--attest", "type=provenance")
	if code != 0 {
		t.Fatalf("exit code %d:\n%s", code, tail(said))
	}
	var kinds []string
	for _, m := range manifest[ocispec.Index](t, strings.TrimSpace(got)).Manifests {
		kinds = append(kinds, m.Platform.Architecture+strings.Join(m.Platform.OSFeatures, ""))
	}
	if got := strings.Join(kinds, " "); got != "386 unknown amd64 unknown 386erofs amd64erofs" {
		t.Errorf("the index has %s", got)
	}
	if said := b.provenance(strings.TrimSpace(got), b.public, 0); strings.Count(said, `"platform"`) < 2 {
		t.Errorf("signed is %s, want something of both platforms", said)
	}
	b.build(dir, "app:2", "--buildkit", "unix://"+socket)
}

// TestBuildPoolFails: why a build failed is said where it was asked for.
func TestBuildPoolFails(t *testing.T) {
	b := startBuildPool(t)
	for name, tc := range map[string]struct {
		dockerfile string
		flags      []string
		code       int
		says       string
	}{
		"a step":         {"FROM scratch\nADD base.tar /\nRUN echo no; exit 7\n", nil, 3, ">>> RUN echo no; exit 7"},
		"no such secret": {"FROM scratch\n", []string{"--secret", "other"}, 4, "secret other"},
		"a local cache":  {"FROM scratch\n", []string{"--cache-to", "type=local,dest=/tmp"}, 2, "registry or inline"},
	} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			_, said, code := b.submit(t, b.context(tc.dockerfile), "none:1", tc.flags...)
			if code != tc.code || !strings.Contains(said, tc.says) {
				t.Errorf("exit code %d, want %d and a word about %s:\n%s", code, tc.code, tc.says, tail(said))
			}
		})
	}
}

// TestBuildCancel: who cancels a job ends the step that it runs.
func TestBuildCancel(t *testing.T) {
	b := startBuildPool(t)
	dir := b.context("FROM scratch\nADD base.tar /\nRUN echo running; exec sleep 987654\n")
	id := strings.TrimSpace(b.pool.output(t, "submit", "build", dir, "-t", b.registry+"/app:1"))
	await(t, "step that sleeps", sleep(t, 1))
	logs := start(t, b.pool.command(t, lithify(t), "jobs", "logs", id))
	logs.says(t, "output of the step", func(line string) (string, bool) { return line, strings.HasSuffix(line, " running") })
	cancelled := time.Now()
	b.pool.output(t, "jobs", "cancel", id)
	await(t, "end of the step", sleep(t, 0))
	t.Logf("the step had ended %v after the cancellation was asked for", time.Since(cancelled).Round(time.Millisecond))
	if st := b.pool.job(t, id); st.State != jobs.Cancelled {
		t.Errorf("the job is %s", st.State)
	}
}

// TestBuildOtherContext: a context that is not what was sent is not built.
func TestBuildOtherContext(t *testing.T) {
	b := startBuilder(t)
	store := t.TempDir()
	b.registry, _ = runRegistry(t, store, "")
	p := startPool(t, 0)
	dir := b.context("FROM scratch\nADD base.tar /\n")
	id := strings.TrimSpace(p.output(t, "submit", "build", dir, "-t", b.registry+"/app:1"))
	blobs, err := filepath.Glob(filepath.Join(store, "docker/registry/v2/blobs/sha256/*/*/data"))
	if err != nil || len(blobs) != 1 {
		t.Fatalf("the registry has %q (%v), want the context", blobs, err)
	}
	content := []byte(read(t, blobs[0]))
	content[len(content)/2] ^= 1
	if err := os.WriteFile(blobs[0], content, 0o644); err != nil {
		t.Fatal(err)
	}
	p.worker(t, "builder", "--buildkit-root", b.root)
	await(t, "failure of the build", func(context.Context) error {
		if st := p.job(t, id); st.Failure == nil || !strings.Contains(st.Failure.Message, "content of sha256:") {
			return fmt.Errorf("%s: %+v", st.State, st.Failure)
		}
		return nil
	})
	if got := strings.TrimSpace(output(t, need(t, "crane"), "catalog", "--insecure", b.registry)); got != "" && strings.TrimSpace(tags(t, b.registry, "app")) != "" {
		t.Errorf("something was published: %s", got)
	}
}

// TestBuildMoves: a step ends with its worker, be that stopped or killed, and another one
// builds.
func TestBuildMoves(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *process){
		"stopped": func(t *testing.T, w *process) { w.stop(t) },
		"killed": func(t *testing.T, w *process) {
			if testing.Short() {
				t.Skip("waits 30 s until the job is another's: long lane")
			}
			if err := w.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := startBuilder(t)
			p := startPool(t, 0)
			builds := func(name, slow string) *process {
				secrets := t.TempDir()
				if err := os.WriteFile(filepath.Join(secrets, "slow"), []byte(slow), 0o600); err != nil {
					t.Fatal(err)
				}
				w, _ := p.worker(t, name, "--grace", "100ms", "--buildkit-root", shortDir(t), "--build-secrets", secrets)
				return w
			}
			first := builds("first", "exec sleep 987654")
			dir := b.context("FROM scratch\nADD base.tar /\nRUN --mount=type=secret,id=slow . /run/secrets/slow\n")
			id := strings.TrimSpace(p.output(t, "submit", "build", dir, "-t", b.registry+"/app:1", "--secret", "slow"))
			await(t, "step that sleeps", sleep(t, 1))
			end(t, first)
			await(t, "end of the step", sleep(t, 0))
			builds("second", "true")
			p.output(t, "jobs", "watch", id)
			if got := strings.TrimSpace(tags(t, b.registry, "app")); got != "1" {
				t.Errorf("the repository has the tags %q", got)
			}
			if st := p.job(t, id); name == "stopped" && st.Attempt != 1 {
				t.Errorf("it took %d attempts: being handed back is none", st.Attempt)
			}
		})
	}
}

// TestBuildkitdKilled: a build whose buildkitd dies is tried again, on the one that is started.
func TestBuildkitdKilled(t *testing.T) {
	b := startBuilder(t)
	p := startPool(t, 0)
	secrets := t.TempDir()
	slow := func(script string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(secrets, "slow"), []byte(script), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	slow("exec sleep 987654")
	p.worker(t, "builder", "--buildkit-root", b.root, "--build-secrets", secrets)
	dir := b.context("FROM scratch\nADD base.tar /\nRUN --mount=type=secret,id=slow . /run/secrets/slow\n")
	id := strings.TrimSpace(p.output(t, "submit", "build", dir, "-t", b.registry+"/app:1", "--secret", "slow"))
	await(t, "step that sleeps", sleep(t, 1))
	slow("true")
	killBuildkitd(t, b.root)
	await(t, "end of the step", sleep(t, 0))
	p.output(t, "jobs", "watch", id)
	if got := strings.TrimSpace(tags(t, b.registry, "app")); got != "1" {
		t.Errorf("the repository has the tags %q", got)
	}
}

// killBuildkitd kills the one that has a root directory.
func killBuildkitd(t *testing.T, root string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		raw, _ := os.ReadFile(f) // it may have ended
		if args := strings.Split(string(raw), "\x00"); strings.HasSuffix(args[0], "/buildkitd") && strings.HasPrefix(args[2], root) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			if err == nil {
				err = syscall.Kill(pid, syscall.SIGKILL)
			}
			if err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("no buildkitd has %s", root)
}

// sleep waits for n steps that sleep.
func sleep(t *testing.T, n int) func(context.Context) error {
	return func(context.Context) error {
		if got := len(sleepers(t)); got != n {
			return fmt.Errorf("%d sleep", got)
		}
		return nil
	}
}
