//go:build linux

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/test/corpus"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// pool is `lithify serve` for a user of its own: the queue and the scheduler in
// one process, and workers beside it.
type pool struct {
	home   string   // where the context file and the store lie
	env    []string // of its commands, beside that
	server *process
	nats   string // host:port
}

func startPool(t *testing.T, slots int) *pool {
	t.Helper()
	p := &pool{home: t.TempDir()}
	p.serve(t, slots)
	return p
}

func (p *pool) serve(t *testing.T, slots int) {
	t.Helper()
	p.server = start(t, p.command(t, lithify(t), "serve", "--dir", filepath.Join(p.home, "queue"), "--slots", fmt.Sprint(slots)))
	p.nats = p.server.says(t, "pool up", func(line string) (string, bool) {
		rest, ok := strings.CutPrefix(line, "pool up at nats://")
		address, _, _ := strings.Cut(rest, " ")
		return address, ok
	})
}

// kill ends the server as a power cut would.
func (p *pool) kill(t *testing.T) {
	t.Helper()
	if err := p.server.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.server.ended
}

// command runs one of our programs as this pool's user.
func (p *pool) command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := command(t, name, args...)
	cmd.Env = append(cmd.Env, "HOME="+p.home, "XDG_CONFIG_HOME="+p.home, "XDG_CACHE_HOME="+p.home, "LITHIFY_CONTEXT=")
	cmd.Env = append(cmd.Env, p.env...)
	return cmd
}

func (p *pool) output(t *testing.T, args ...string) string {
	t.Helper()
	var said strings.Builder
	cmd := p.command(t, lithify(t), args...)
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("lithify %s: %v\n%s", strings.Join(args, " "), err, tail(said.String()))
	}
	return string(out)
}

func (p *pool) job(t *testing.T, id string, flags ...string) (st queue.Status) {
	t.Helper()
	if err := json.Unmarshal([]byte(p.output(t, append([]string{"jobs", "get", id}, flags...)...)), &st); err != nil {
		t.Fatal(err)
	}
	return st
}

// worker starts lithify-worker, and returns where it keeps layers that it is not
// done with.
func (p *pool) worker(t *testing.T, name string, flags ...string) (*process, string) {
	t.Helper()
	temp := t.TempDir()
	args := append([]string{"--name", name, "--slots", "1", "--temp-dir", temp}, flags...)
	return start(t, p.command(t, program(t, "lithify-worker", "../../cmd/worker"), args...)), temp
}

// lists waits until a worker is on the list.
func (p *pool) lists(t *testing.T, name string) {
	t.Helper()
	await(t, "worker "+name, func(context.Context) error {
		if list := p.output(t, "workers"); !strings.Contains(list, "\n"+name+" ") {
			return errors.New(list)
		}
		return nil
	})
}

// TestServe has serve do what convert does, to the byte.
func TestServe(t *testing.T) {
	registry := startRegistry(t)
	src := registry + "/served:tar"
	push(t, probeImage(t, "application/vnd.oci.image.layer.v1.tar+gzip", corpus.Linked), src)
	p := startPool(t, 1)
	got := p.output(t, "submit", "convert", "--wait", "--insecure", src, registry+"/served:pool")
	want := convert(t, src, registry+"/served:here")
	if digestOf(got) != digestOf(want) {
		t.Errorf("the pool made %s, this process %s", got, want)
	}
	if list := p.output(t, "jobs", "list"); !strings.Contains(list, string(jobs.Done)) {
		t.Errorf("jobs list: no job that is done in:\n%s", list)
	}
}

// TestKilledWorker kills a worker in the middle of a layer: another ends the job,
// once.
func TestKilledWorker(t *testing.T) {
	l := openLayer(t, "node_modules")
	registry := startRegistry(t)
	image, err := corpus.Image(corpus.Linux, nil, l.Registry(corpus.Gzip))
	if err != nil {
		t.Fatal(err)
	}
	src := registry + "/killed:tar"
	push(t, image, src)
	p := startPool(t, 0)
	key := ledgerKey(t)
	first, temp := p.worker(t, "first", "--ledger-key", key)
	id := strings.TrimSpace(p.output(t, "submit", "convert", "--insecure", src, registry+"/killed:erofs"))
	await(t, "a layer half written", func(context.Context) error { return holdsMB(first.Process.Pid, temp, 50) })
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-first.ended
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("the killed worker left %v, %v", left, err)
	}
	if st := p.job(t, id); st.State.Ended() {
		t.Fatalf("the job was %s before the worker was killed: the layer is too small", st.State)
	}
	p.worker(t, "second", "--ledger-key", key)
	events := p.output(t, "jobs", "watch", id) // until the job ends
	st := p.job(t, id)
	if st.State != jobs.Done || st.Worker != "second" || st.Attempt != 1 {
		t.Errorf("got %s by %s at attempt %d, want done by second at the first\n%s", st.State, st.Worker, st.Attempt, events)
	}
	if len(st.Children) != 1 {
		t.Fatalf("got the layers %v, want one", st.Children)
	}
	if st := p.job(t, string(st.Children[0])); st.State != jobs.Done || st.Worker != "second" || st.Attempt != 2 {
		t.Errorf("layer: got %s by %s at attempt %d, want done by second at attempt 2", st.State, st.Worker, st.Attempt)
	}
	if n := len(regexp.MustCompile(`(?m): (job )?done\b`).FindAllString(events, -1)); n != 1 {
		t.Errorf("the job is done %d times, want once:\n%s", n, events)
	}
	index := manifest[ocispec.Index](t, registry+"/killed:erofs")
	if n := len(index.Manifests); n != 2 {
		t.Errorf("got %d manifests, want the original and the variant", n)
	}
	want := convert(t, src, registry+"/killed:here")
	if got := output(t, need(t, "crane"), "digest", "--insecure", registry+"/killed:erofs"); strings.TrimSpace(got) != digestOf(want) {
		t.Errorf("got %s, want %s as from lithify convert", got, want)
	}
}

// holdsMB reports whether the process has a file of dir open that holds so much;
// the file need not have a name.
func holdsMB(pid int, dir string, mb int64) error {
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	var sizes []int64
	for _, fd := range fds {
		to, _ := os.Readlink(fd)
		info, err := os.Stat(fd)
		if err == nil && strings.HasPrefix(to, dir+"/") {
			sizes = append(sizes, info.Size())
		}
	}
	if len(sizes) > 0 && slices.Max(sizes) >= mb<<20 {
		return nil
	}
	return errors.Join(err, fmt.Errorf("process %d holds files in %s of %d bytes", pid, dir, sizes))
}

func digestOf(ref string) string {
	_, d, _ := strings.Cut(strings.TrimSpace(ref), "@")
	return d
}
