//go:build linux

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/jobs"
)

// stop stands before a registry and holds a request until who sent it is dead: before the
// registry has it, or when it has been done and before that is told.
type stop struct {
	host    string
	reached chan struct{} // closed when the request is held
	gone    chan struct{} // closed by the test when who sent it is dead
}

func startStop(t *testing.T, registry string, answered bool, match func(*http.Request) bool) *stop {
	t.Helper()
	if match == nil {
		match = func(*http.Request) bool { return false }
	}
	s := &stop{reached: make(chan struct{}), gone: make(chan struct{})}
	reach := sync.OnceFunc(func() { close(s.reached) })
	to := proxy(registry, func(r *http.Response) {
		if answered && match(r.Request) {
			reach()
			<-s.gone
		}
	})
	s.host = hostOf(serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !answered && !s.over() && match(r) {
			hold := func() (int64, error) {
				reach()
				<-s.gone
				return 0, io.ErrUnexpectedEOF
			}
			if r.ContentLength < 1<<20 {
				hold()
				panic(http.ErrAbortHandler)
			}
			r.Body = &halting{r.Body, 1 << 19, hold} // the registry gets a part of it
		}
		to.ServeHTTP(w, r)
	})))
	return s
}

func (s *stop) over() bool {
	select {
	case <-s.gone:
		return true
	default:
		return false
	}
}

// commitStep is where a commit is killed.
type commitStep struct {
	name     string
	match    func(*http.Request) bool // the registry's request at which it is; nil: none, the container is paused
	answered bool
	readMB   int64 // of the new layer, in which the container is paused
	moved    bool  // the tag names the new image
	long     bool
}

var commitSteps = []commitStep{
	{name: "paused", long: true},
	{name: "read", readMB: 4},
	{name: "upload", long: true, match: func(r *http.Request) bool {
		return r.Method != http.MethodGet && strings.Contains(r.URL.Path, "/blobs/uploads/") && r.ContentLength > 1<<20
	}},
	{name: "manifests", long: true, match: func(r *http.Request) bool {
		return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/sha256:")
	}},
	{name: "before the tag", match: isTagging},
	{name: "after the tag", match: isTagging, answered: true, moved: true, long: true},
}

// changesToUpload are read at once, and are more than a request of nothing else.
const changesToUpload = "head -c 4000000 /dev/urandom > /a"

// long gives the container a file that takes a minute to read, which has no bytes, until
// it is taken away again; also if it is paused.
func (c *container) long(t *testing.T) (short func()) {
	t.Helper()
	name := filepath.Join(c.root(), "long")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(100<<30), f.Close()); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Error(err)
		}
	}
}

func isTagging(r *http.Request) bool {
	return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/manifests/1")
}

// TestCommitKilled kills the process that commits, in each step: the container runs on,
// the tag names the image of before or the whole new one, nothing stays on this machine,
// and the next run ends.
func TestCommitKilled(t *testing.T) {
	killInEachStep(t, func(k *killed) {
		temp := k.t.TempDir()
		k.kill(start(k.t, command(k.t, lithify(k.t), "commit", "--containerd", k.address, "--insecure", "--temp-dir", temp, k.id, k.tag(k.stop.host))), temp)
		if again := digestOf(k.mustCommit(k.t, k.tag(k.registry))); again != k.made {
			k.t.Errorf("the next run made %s, want %s", again, k.made)
		}
	})
}

// TestCommitWorkerKilled does the same to a worker: another one of the node ends the job.
func TestCommitWorkerKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("each step takes the ack wait, 30 s: long lane")
	}
	killInEachStep(t, func(k *killed) {
		p := startPool(k.t, 0)
		first, temp := p.worker(k.t, "first", "--containerd", k.address, "--node", "n1")
		id := strings.TrimSpace(p.output(k.t, "submit", "commit", "--node", "n1", "--insecure", k.id, k.tag(k.stop.host)))
		k.kill(first, temp)
		p.worker(k.t, "second", "--containerd", k.address, "--node", "n1")
		p.output(k.t, "jobs", "watch", id)
		if st := p.job(k.t, id); st.State != jobs.Done || st.Worker != "second" || st.Attempt != 2 {
			k.t.Errorf("got %s by %s at attempt %d, want done by second at attempt 2", st.State, st.Worker, st.Attempt)
		}
	})
}

// killed is a container whose commit is killed in a step.
type killed struct {
	*container
	t              *testing.T
	registry, repo string
	was, made      string // what the tag names before, and what it is to name at the end
	step           commitStep
	stop           *stop
	short          func() // lets the next run read it in no time
}

func killInEachStep(t *testing.T, commit func(*killed)) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	_, registry, c := startOne(t, 1, "overlayfs")
	was := digestOf(c.mustCommit(t, registry+"/made:was"))
	c.does(t, changesToUpload)
	made := digestOf(c.mustCommit(t, registry+"/made:made"))
	for i, step := range commitSteps {
		t.Run(step.name, func(t *testing.T) {
			if step.long && testing.Short() {
				t.Skip("short lane: kills in two steps of the six")
			}
			k := &killed{c, t, registry, fmt.Sprint("kill", i), was, made, step, startStop(t, registry, step.answered, step.match), func() {}}
			if step.match == nil {
				k.short = c.long(t)
			}
			output(t, need(t, "crane"), "copy", "--insecure", registry+"/made@"+was, k.tag(registry))
			commit(k)
			k.names(made)
		})
	}
}

func (k *killed) tag(host string) string { return host + "/" + k.repo + ":1" }

// kill does it when the process has come to the step, and looks at what is left.
func (k *killed) kill(p *process, temp string) {
	k.t.Helper()
	if k.step.match != nil {
		happens(k.t, "the request", k.stop.reached)
	} else {
		k.awaits(k.t, "PAUSED")
		await(k.t, "part of the layer", func(context.Context) error { return holdsMB(p.Process.Pid, temp, k.step.readMB) })
	}
	if err := p.Process.Kill(); err != nil {
		k.t.Fatal(err)
	}
	<-p.ended
	close(k.stop.gone)
	k.short()
	k.awaits(k.t, "RUNNING")
	k.does(k.t, "true")
	if k.step.moved {
		k.names(k.made)
	} else {
		k.names(k.was)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		k.t.Errorf("left behind: %v, %v", left, err)
	}
	lock := "/run/lithify/frozen/" + digest.FromString(k.address+"\ndefault\n"+k.id).Encoded()
	await(k.t, "end of the guard", func(context.Context) error {
		if _, err := os.Stat(lock); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("the lock is there: %v", err)
		}
		return nil
	})
	if leases := strings.TrimSpace(k.ctr("leases", "ls", "-q")); leases != "" {
		k.t.Errorf("leases: %s", leases)
	}
}

// names checks what the tag names, and that all of it is there.
func (k *killed) names(want string) {
	k.t.Helper()
	if got := strings.TrimSpace(output(k.t, need(k.t, "crane"), "digest", "--insecure", k.tag(k.registry))); got != want {
		k.t.Errorf("the tag names %s, want %s", got, want)
	}
	in := k.registry + "/" + k.repo
	for _, d := range manifest[ocispec.Index](k.t, in+"@"+want).Manifests {
		m := manifest[ocispec.Manifest](k.t, in+"@"+d.Digest.String())
		for _, blob := range append(m.Layers, m.Config) {
			r, err := http.Head("http://" + k.registry + "/v2/" + k.repo + "/blobs/" + blob.Digest.String())
			if err != nil {
				k.t.Fatal(err)
			}
			r.Body.Close()
			if r.StatusCode != http.StatusOK || r.ContentLength != blob.Size {
				k.t.Errorf("blob %s of %s: status %d, %d bytes, want %d", blob.Digest, d.Digest, r.StatusCode, r.ContentLength, blob.Size)
			}
		}
	}
}

func (c *container) awaits(t *testing.T, status string) {
	t.Helper()
	await(t, status, func(context.Context) error {
		if got := c.status(t); got != status {
			return fmt.Errorf("the container is %s", got)
		}
		return nil
	})
}

// TestCommitKilledWithGuard kills the guard, too: a worker that starts resumes the
// container, and so does the next commit.
func TestCommitKilledWithGuard(t *testing.T) {
	d, registry, c := startOne(t, 1, "overlayfs")
	c.does(t, changesToUpload)
	kill := func() {
		defer c.long(t)()
		p := start(t, command(t, lithify(t), "commit", "--containerd", d.address, "--insecure", c.id, registry+"/made:1"))
		c.awaits(t, "PAUSED")
		if err := p.Process.Signal(syscall.SIGSTOP); err != nil { // so that it does not go on without its guard
			t.Fatal(err)
		}
		guards, err := children(p.Process.Pid)
		if err != nil || len(guards) != 1 {
			t.Fatalf("children of lithify commit: %v, %v; want the guard", guards, err)
		}
		if err := syscall.Kill(guards[0], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := p.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-p.ended
		await(t, "end of the guard", func(context.Context) error {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", guards[0]))
			if err == nil && !strings.Contains(string(stat), ") Z ") {
				return fmt.Errorf("it is there: %s", stat)
			}
			return nil
		})
		if got := c.status(t); got != "PAUSED" {
			t.Fatalf("without a guard the container is %s: somebody else has resumed it", got)
		}
	}
	kill()
	p := startPool(t, 0)
	p.worker(t, "w", "--containerd", d.address)
	c.awaits(t, "RUNNING")
	kill()
	c.mustCommit(t, registry+"/made:1")
	c.awaits(t, "RUNNING")
}

// children are a process's.
func children(pid int) (pids []int, err error) {
	out, err := exec.Command("ps", "-o", "pid=", "--ppid", strconv.Itoa(pid)).Output()
	for _, f := range strings.Fields(string(out)) {
		n, aerr := strconv.Atoi(f)
		pids, err = append(pids, n), errors.Join(err, aerr)
	}
	return pids, err
}
