//go:build linux

package e2e_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// builder runs lithify build with a buildkitd that it starts each time, on one cache.
type builder struct {
	t        *testing.T
	registry string
	root     string
}

func startBuilder(t *testing.T) *builder {
	t.Helper()
	needRoot(t)
	for _, name := range []string{"buildkitd", "runc", "busybox"} {
		need(t, name)
	}
	return &builder{t, startRegistry(t), shortDir(t)}
}

// shortDir is for sockets, whose path has at most 107 bytes.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "lithify")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeAll(t, dir) })
	return dir
}

// build builds a context as name and gives the reference by digest it printed.
func (b *builder) build(context, name string, flags ...string) string {
	b.t.Helper()
	out := output(b.t, lithify(b.t), b.args(context, name, flags...)...)
	ref := regexp.MustCompile(`^(\S+@sha256:[0-9a-f]{64})\n$`).FindStringSubmatch(out)
	if ref == nil {
		b.t.Fatalf("lithify build: got %q, want one line DST@DIGEST", out)
	}
	return ref[1]
}

func (b *builder) args(context, name string, flags ...string) []string {
	return append([]string{"build", context, "-t", b.registry + "/" + name, "--buildkit-root", b.root, "--progress", "plain"}, flags...)
}

// context is a directory with a Dockerfile, and with base.tar: a system of one program.
func (b *builder) context(dockerfile string, files ...string) string {
	b.t.Helper()
	dir := b.t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "base.tar"), busybox(b.t), 0o644); err != nil {
		b.t.Fatal(err)
	}
	for name, content := range pairs(append([]string{"Dockerfile", dockerfile}, files...)) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			b.t.Fatal(err)
		}
	}
	return dir
}

func pairs(s []string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(s); i += 2 {
		m[s[i]] = s[i+1]
	}
	return m
}

// busybox is a root directory with a shell, as a tar.
func busybox(t *testing.T) []byte {
	t.Helper()
	program, err := os.ReadFile(need(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, content []byte) {
		h.Size = int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		w.Write(content)
	}
	add(tar.Header{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	add(tar.Header{Name: "bin/busybox", Mode: 0o755}, program)
	for _, name := range []string{"sh", "cat", "cp", "echo", "env", "sleep", "stat", "wc"} {
		add(tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "busybox"}, nil)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const onbuildDockerfile = `# syntax=docker/dockerfile:1
FROM scratch
ADD base.tar /
ONBUILD COPY greeting /greeting
`

// A Dockerfile in the idioms of real projects.
const idiomsDockerfile = `# syntax=docker/dockerfile:1
ARG BASE
FROM $BASE AS base
LABEL stage=base
FROM base AS made
ARG FLAVOUR=plain
RUN --mount=type=ssh [ -S "$SSH_AUTH_SOCK" ]
RUN --mount=type=secret,id=token --mount=type=cache,target=/cache <<EOS
set -e
cat /run/secrets/token | wc -c > /length
cat /run/secrets/token
echo "$FLAVOUR" > /flavour
echo x >> /cache/runs
cp /cache/runs /runs
EOS
COPY <<settings.conf /settings.conf
of $FLAVOUR
settings.conf
FROM base
COPY --link --from=made /length /flavour /runs /settings.conf /made/
COPY --chmod=0640 src /src
ENV GREETING="hello world"
CMD ["/bin/sh", "-c", "cat /greeting /made/length /made/flavour /made/settings.conf; stat -c %a /src/kept; echo $GREETING; echo /src/*"]
`

// TestBuild builds in one command and has containerd run both halves of what comes of it.
// The secret that the build was given is in none of what it left.
func TestBuild(t *testing.T) {
	d := startContainerd(t)
	b := startBuilder(t)
	base := b.build(b.context(onbuildDockerfile), "base:1")

	secret := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(secret, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	agent, err := net.Listen("unix", filepath.Join(shortDir(t), "agent.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	metadata := filepath.Join(t.TempDir(), "metadata.json")
	key, public := signingKey(t)
	from := b.context(idiomsDockerfile, "greeting", "good day\n", "src/kept", "", "src/left.out", "", ".dockerignore", "**/*.out\nbase.tar\n")
	cmd := command(t, lithify(t), b.args(from, "app:1", "--verbose", "--build-arg", "BASE="+base, "--build-arg", "FLAVOUR=sweet",
		"--ledger-key", key, "--secret", "id=token,src="+secret, "--ssh", "default="+agent.Addr().String(), "--attest", "type=provenance,mode=max", "--label", "made=by us", "--metadata-file", metadata)...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, tail(stderr.String()))
	}
	ref := strings.TrimSpace(stdout.String())

	index := manifest[ocispec.Index](t, ref)
	var kinds []string
	for _, m := range index.Manifests {
		kinds = append(kinds, m.Platform.OS+strings.Join(m.Platform.OSFeatures, ""))
	}
	if got := strings.Join(kinds, " "); got != "linux unknown linuxerofs" {
		t.Errorf("the index has %s, want the image, its provenance and its variant", got)
	}
	want := fmt.Sprintf("good day\n%d\nsweet\nof sweet\n640\nhello world\n/src/kept\n", len(password))
	for _, snapshotter := range []string{"overlayfs", "erofs"} {
		d.pull(ref, snapshotter)
		if got := d.run(ref, snapshotter); got != want {
			t.Errorf("on %s it says %q, want %q", snapshotter, got, want)
		}
	}

	var told map[string]any
	if err := json.Unmarshal([]byte(read(t, metadata)), &told); err != nil {
		t.Fatal(err)
	}
	_, digest, _ := strings.Cut(ref, "@")
	if told["containerimage.digest"] != digest || told["image.name"] != b.registry+"/app:1" {
		t.Errorf("the metadata file says %v, want %s", told, digest)
	}
	said := b.provenance(ref, public, 0)
	if !strings.Contains(said, `"id":"https://github.com/lithify/lithify/build"`) || !strings.Contains(said, `"build-arg:FLAVOUR":"sweet"`) {
		t.Errorf("signed is %s", said)
	}
	_, other := signingKey(t)
	b.provenance(ref, other, 3)
	b.provenance(base, public, 3) // was built without
	b.findsNot(password, stderr.String()+read(t, metadata)+said)
	if signed := strings.Count(tags(t, b.registry, "app"), "sha256-"); signed != 1 { // findsNot looks at what tags reach
		t.Errorf("%d images have something attached, want 1", signed)
	}
}

// signingKey makes the files of a pair of keys.
func signingKey(t *testing.T) (private, public string) {
	t.Helper()
	private = ledgerKey(t)
	public = filepath.Join(t.TempDir(), "pool.pub.pem")
	output(t, "openssl", "pkey", "-in", private, "-pubout", "-out", public)
	return private, public
}

// provenance has lithify verify that of ref with a public key, and gives what it says.
func (b *builder) provenance(ref, public string, want int) string {
	b.t.Helper()
	cmd := command(b.t, lithify(b.t), "verify", "--output", "json", "--provenance", public, ref)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != want {
		b.t.Errorf("verify %s: exit code %d, want %d: %s%s", ref, code, want, stdout.String(), tail(stderr.String()))
	}
	var compact bytes.Buffer
	if want == 0 && json.Compact(&compact, []byte(stdout.String())) != nil {
		b.t.Errorf("verify: %s", stdout.String())
	}
	return compact.String()
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// findsNot looks for a secret in what was said and in all that the registry holds, also
// where that is compressed.
func (b *builder) findsNot(secret, said string) {
	b.t.Helper()
	blobs := 0
	look := func(where string, content []byte) {
		if slices.ContainsFunc(spellings(secret), func(form []byte) bool { return bytes.Contains(content, form) }) {
			b.t.Errorf("the secret is in %s", where)
		}
	}
	look("what lithify said", []byte(said))
	for _, repository := range strings.Fields(output(b.t, need(b.t, "crane"), "catalog", "--insecure", b.registry)) {
		for _, tag := range strings.Fields(tags(b.t, b.registry, repository)) {
			b.eachBlob(b.registry+"/"+repository+":"+tag, func(name string, content []byte) {
				blobs++
				look(name, content)
				if r, err := gzip.NewReader(bytes.NewReader(content)); err == nil {
					raw, err := io.ReadAll(r)
					if err != nil {
						b.t.Fatal(err)
					}
					look(name+", uncompressed", raw)
				}
			})
		}
	}
	if blobs < 10 {
		b.t.Errorf("only %d blobs were looked at", blobs)
	}
}

// eachBlob calls f for every manifest and blob that a tag reaches.
func (b *builder) eachBlob(ref string, f func(name string, content []byte)) {
	b.t.Helper()
	raw := output(b.t, need(b.t, "crane"), "manifest", "--insecure", ref)
	f(ref, []byte(raw))
	var m struct {
		Manifests, Layers []ocispec.Descriptor
		Config            ocispec.Descriptor
	}
	if err := json.Unmarshal([]byte(raw), &m); err != nil {
		b.t.Fatal(err)
	}
	repository := ref[:strings.LastIndexAny(ref, ":@")]
	repository = strings.TrimSuffix(repository, "@sha256")
	for _, d := range m.Manifests {
		b.eachBlob(repository+"@"+d.Digest.String(), f)
	}
	if m.Config.Digest != "" {
		m.Layers = append(m.Layers, m.Config)
	}
	for _, d := range m.Layers {
		name := repository + "@" + d.Digest.String()
		f(name, []byte(output(b.t, need(b.t, "crane"), "blob", "--insecure", name)))
	}
}

// TestBuildAgain: with SOURCE_DATE_EPOCH a build that starts from nothing gives the digest
// that it gave before, and the tag stays.
func TestBuildAgain(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	b := startBuilder(t)
	dir := b.context("FROM scratch\nADD base.tar /\nRUN mkdir /d; echo x > /d/x\nCOPY f /f\n", "f", "content")
	first := b.build(dir, "app:1", "--profile", "erofs+zstd")
	b.root = shortDir(t)
	if again := b.build(dir, "app:1", "--profile", "erofs+zstd"); again != first {
		t.Errorf("built again it is %s, was %s", again, first)
	}
	if got := strings.TrimSpace(tags(t, b.registry, "app")); got != "1" {
		t.Errorf("the repository has the tags %q, want 1 alone", got)
	}
}

// TestBuildContexts: an archive and a Git repository give the image that the directory does.
func TestBuildContexts(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	b := startBuilder(t)
	dir := b.context("FROM scratch\nCOPY a /a\n", "a/b", "content")
	if err := os.Remove(filepath.Join(dir, "base.tar")); err != nil {
		t.Fatal(err)
	}
	want := b.build(dir, "app:1")
	archive := filepath.Join(t.TempDir(), "context.tgz")
	output(t, "tar", "-C", dir, "-czf", archive, ".")
	if got := b.build(archive, "app:1"); got != want {
		t.Errorf("of an archive %s, want %s", got, want)
	}
	// In what buildkitd opens the line that names a frontend counts for nothing.
	named := b.context("# syntax=127.0.0.1:1/frontend:1\nFROM scratch\nCOPY a /a\n", "a/b", "content")
	output(t, "tar", "-C", named, "-czf", archive, "Dockerfile", "a")
	if got := b.build(archive, "app:1"); got != want {
		t.Errorf("of an archive that names another frontend %s, want %s", got, want)
	}
	url, commit := gitServer(t, dir)
	for _, ref := range []string{url + "#main:sub", url + "#" + commit + ":sub"} {
		if got := b.build(ref, "app:1"); got != want {
			t.Errorf("of %s %s, want %s", ref, got, want)
		}
	}
}

// gitServer serves a repository that has dir as sub in one commit.
func gitServer(t *testing.T, dir string) (url, commit string) {
	t.Helper()
	backend := "/usr/lib/git-core/git-http-backend"
	if !executable(backend) {
		t.Skip("no " + backend + ": run test/tools/install.sh")
	}
	root := t.TempDir()
	work := filepath.Join(root, "work")
	git := func(args ...string) string {
		return output(t, "git", append([]string{"-C", work, "-c", "user.name=t", "-c", "user.email=t@example.com"}, args...)...)
	}
	output(t, "git", "init", "-q", "-b", "main", work)
	output(t, "cp", "-r", dir, filepath.Join(work, "sub"))
	git("add", ".")
	git("commit", "-q", "-m", "all")
	output(t, "git", "clone", "-q", "--bare", work, filepath.Join(root, "app.git"))
	s := httptest.NewServer(&cgi.Handler{Path: backend, Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1"}})
	t.Cleanup(s.Close)
	return s.URL + "/app.git", strings.TrimSpace(git("rev-parse", "HEAD"))
}

// TestBuildRefused: what is wrong is told apart by the exit code and said with where it
// is, and nothing is published.
func TestBuildRefused(t *testing.T) {
	b := startBuilder(t)
	for name, tc := range map[string]struct {
		dockerfile string
		flags      []string
		code       int
		says       string
	}{
		"a step fails":      {"FROM scratch\nADD base.tar /\nRUN echo no; exit 7\n", nil, 3, ">>> RUN echo no; exit 7"},
		"its exit code":     {"FROM scratch\nADD base.tar /\nRUN exit 7\n", nil, 3, "exit code: 7"},
		"no instruction":    {"FROM scratch\nFOO bar\n", nil, 3, "FOO"},
		"a frontend":        {"# syntax=docker/dockerfile:1-labs\nFROM scratch\n", nil, 3, "Dockerfile:1: the frontend docker/dockerfile:1-labs"},
		"no Dockerfile":     {"", []string{"-f", "nowhere"}, 4, "nowhere"},
		"no buildkitd":      {"FROM scratch\n", []string{"--buildkit", "unix:///nowhere.sock"}, 5, "/nowhere.sock"},
		"no registry":       {"FROM scratch\n", []string{"-t", "127.0.0.1:1/app:1"}, 5, "127.0.0.1:1"},
		"no secret":         {"FROM scratch\n", []string{"--secret", "id=x,src=/nowhere"}, 4, "/nowhere"},
		"no such directory": {"FROM scratch\n", []string{"--metadata-file", "/nowhere/metadata.json"}, 2, "--metadata-file /nowhere/metadata.json"},
		"no such network":   {"FROM scratch\n", []string{"--network", "bridge"}, 2, "bridge"},
		"privileged":        {"FROM scratch\nADD base.tar /\nRUN --security=insecure true\n", nil, 1, "security.insecure"},
		"the host's net":    {"FROM scratch\nADD base.tar /\nRUN --network=host true\n", nil, 1, "network.host"},
	} {
		t.Run(name, func(t *testing.T) {
			b := &builder{t, b.registry, b.root}
			code, said := exit(t, lithify(t), b.args(b.context(tc.dockerfile), "none:1", tc.flags...)...)
			if code != tc.code || !strings.Contains(said, tc.says) {
				t.Errorf("exit code %d, %q; want %d and a word about %s", code, said, tc.code, tc.says)
			}
		})
	}
	if got := strings.TrimSpace(output(t, need(t, "crane"), "catalog", "--insecure", b.registry)); got != "" {
		t.Errorf("something was published: %s", got)
	}
}

// TestBuildEnds: a step that runs ends with lithify, whether that is asked to end or killed.
// What the kernel leaves of one that was killed is gone with the next build.
func TestBuildEnds(t *testing.T) {
	b := startBuilder(t)
	next := b.context("FROM scratch\nCOPY Dockerfile /\n")
	dir := b.context("FROM scratch\nADD base.tar /\nRUN echo running; exec sleep 987654\n")
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			p := start(t, command(t, lithify(t), b.args(dir, "app:1")...))
			p.says(t, "step", func(line string) (string, bool) { return line, strings.HasSuffix(line, " running") })
			await(t, "step that sleeps", func(context.Context) error {
				if len(sleepers(t)) == 0 {
					return errors.New("none runs")
				}
				return nil
			})
			cgroup := cgroupOf(t, sleepers(t)[0])
			if err := p.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			happens(t, "end of lithify", p.ended)
			if code := p.ProcessState.ExitCode(); signal == syscall.SIGINT && code != 130 {
				t.Errorf("exit code %d, want 130", code)
			}
			if signal == syscall.SIGINT && len(sleepers(t)) > 0 {
				t.Error("lithify has ended and the step runs on")
			}
			await(t, "end of the step", func(context.Context) error {
				if n := len(sleepers(t)); n > 0 {
					return fmt.Errorf("%d run", n)
				}
				return nil
			})
			b.build(next, "next:1")
			if _, err := os.Stat(cgroup); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the step's cgroup %s is still there (%v)", cgroup, err)
			}
		})
	}
}

// cgroupOf is the directory of a process's cgroup for its memory, or of its only one.
func cgroupOf(t *testing.T, process string) string {
	t.Helper()
	for line := range strings.Lines(read(t, filepath.Join("/proc", process, "cgroup"))) {
		_, where, _ := strings.Cut(strings.TrimSpace(line), ":")
		hierarchy, path, _ := strings.Cut(where, ":")
		dir := filepath.Join("/sys/fs/cgroup", hierarchy, path)
		if _, err := os.Stat(dir); err == nil && (hierarchy == "memory" || hierarchy == "") {
			return dir
		}
	}
	t.Fatalf("process %s has no cgroup", process)
	return ""
}

// sleepers are the processes of steps that sleep.
func sleepers(t *testing.T) (processes []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		raw, _ := os.ReadFile(f) // it may have ended
		if string(raw) == "sleep\x00987654\x00" {
			processes = append(processes, filepath.Base(filepath.Dir(f)))
		}
	}
	return processes
}
