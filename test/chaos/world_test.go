//go:build linux

package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/test/chaos/history"
	"github.com/lithify/lithify/test/chaos/proxy"
)

const (
	// patience is how long what has to happen may take on a busy machine.
	patience = 90 * time.Second
	// onceWithin bounds one look: the answer to a request may be lost.
	onceWithin = 10 * time.Second
)

// world is a pool of real processes and what watches it.
type world struct {
	t      *testing.T
	dir    string // logs, diary and the server's store
	store  string
	addr   string // of the server
	log    *recorder
	server *process
	nodes  map[string]*node // schedulers and workers
	direct *queue.Client    // past every proxy
}

// node is a client process of the pool, behind its own proxy.
type node struct {
	*process
	proxy *proxy.Proxy
	tap   atomic.Pointer[proxy.Tap]
}

// newWorld starts a server whose store is in store, or in memory.
func newWorld(t *testing.T, store string) *world {
	t.Helper()
	w := &world{t: t, dir: runDir(t), store: store, addr: freeAddr(t), nodes: map[string]*node{}}
	if store == "" {
		w.store = filepath.Join(w.dir, "store")
	}
	w.log = newRecorder(t, w.dir)
	w.startServer()
	w.direct = w.connect("direct", "nats://"+w.addr)
	w.until("streams", func(ctx context.Context) error { return w.direct.Setup(ctx, 1) })
	w.observe()
	w.watchMachine()
	return w
}

// runDir is where a run keeps everything. It is in memory where the machine has
// room there: others' disk writes would look like faults. One of a run that failed
// stays.
func runDir(t *testing.T) string {
	t.Helper()
	in := "/dev/shm"
	if _, err := os.Stat(in); err != nil {
		in = ""
	}
	dir, err := os.MkdirTemp(in, "lithify-chaos-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() || *keepLogs {
			t.Logf("seed %d; the logs of this run are in %s", *seed, dir)
			return
		}
		os.RemoveAll(dir)
	})
	return dir
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (w *world) startServer() {
	w.t.Helper()
	path := filepath.Join(w.dir, "nats.conf")
	// As deploy/nats/single.conf, but for keys: proxies read what passes.
	text := fmt.Sprintf("server_name: chaos\nlisten: %q\njetstream { store_dir: %q, max_file_store: 20GB, sync_interval: %s }\nmax_payload: 256KB\n", w.addr, w.store, *syncInterval)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	bin := need(w.t, "nats-server")
	w.server = w.start(history.Server, func(int) *exec.Cmd { return exec.Command(bin, "-c", path) })
}

func (w *world) start(name string, cmd func(life int) *exec.Cmd) *process {
	w.t.Helper()
	p, err := startProcess(name, filepath.Join(w.dir, name+".log"), cmd)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(p.close)
	return p
}

// node starts a scheduler, s1, or a worker, w1, behind a proxy. In its first life it
// is w1-1, in the next w1-2.
func (w *world) node(name string) *node {
	w.t.Helper()
	p, err := proxy.New(w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(p.Close)
	n := &node{proxy: p}
	p.Watch(w.wire(name, n))
	n.process = w.start(name, func(life int) *exec.Cmd {
		r := role{Name: fmt.Sprintf("%s-%d", name, life), URL: p.URL(), Diary: filepath.Join(w.dir, "diary")}
		raw, err := json.Marshal(r)
		if err != nil {
			panic(err)
		}
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), roleVariable+"="+string(raw))
		return cmd
	})
	w.nodes[name] = n
	return n
}

func (w *world) connect(name, url string) *queue.Client {
	w.t.Helper()
	var c *queue.Client
	w.until("server", func(ctx context.Context) (err error) {
		c, err = queue.Connect(ctx, queue.Config{URL: url, Name: name, Options: []nats.Option{nats.ReconnectWait(10 * time.Millisecond)}})
		return err
	})
	w.t.Cleanup(c.Close)
	return c
}

func (w *world) until(what string, ask func(context.Context) error) {
	w.t.Helper()
	until(w.t, what, ask)
}

// until asks until there is no error: for what sends no event.
func until(t *testing.T, what string, ask func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for tick := time.Tick(20 * time.Millisecond); ; {
		err := once(ctx, ask)
		if err == nil {
			return
		}
		select {
		case <-tick:
		case <-ctx.Done():
			t.Fatalf("no %s in %v: %v", what, patience, err)
		}
	}
}

func once(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, onceWithin)
	defer cancel()
	return ask(ctx)
}

// watchMachine notes when this process itself did not get the processor: then
// others did not, either.
func (w *world) watchMachine() {
	const beat, late = 50 * time.Millisecond, 400 * time.Millisecond
	w.run(func(ctx context.Context) {
		tick := time.NewTicker(beat)
		defer tick.Stop()
		for last := time.Now(); ; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if now := time.Now(); now.Sub(last) > late {
				w.log.fault(history.Fault{Kind: history.Stall, Victim: history.Machine, From: last, Until: now})
			}
			last = time.Now()
		}
	})
}

// run runs f until the test ends.
func (w *world) run(f func(context.Context)) {
	ctx, cancel := context.WithCancel(w.t.Context())
	var wait sync.WaitGroup
	wait.Go(func() { f(ctx) })
	w.t.Cleanup(func() { cancel(); wait.Wait() })
}

// crashes are what the processes' logs say that no log may.
func (w *world) crashes() (bad []string) {
	logs, err := filepath.Glob(filepath.Join(w.dir, "*.log"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, path := range logs {
		raw, err := os.ReadFile(path)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, word := range []string{"\npanic: ", "fatal error: ", "DATA RACE", "unreadable"} {
			if i := strings.Index(string(raw), word); i >= 0 {
				bad = append(bad, fmt.Sprintf("%s: %s", filepath.Base(path), raw[i:min(len(raw), i+2000)]))
			}
		}
	}
	return bad
}

// need is the path of a program that test/tools/install.sh makes.
func need(t *testing.T, name string) string {
	t.Helper()
	tools := os.Getenv("LITHIFY_TEST_TOOLS")
	if tools == "" {
		tools = "/var/lib/lithify-test-tools"
	}
	path := filepath.Join(tools, "bin", name)
	if _, err := os.Stat(path); err != nil {
		if path, err = exec.LookPath(name); err != nil {
			t.Skipf("no %s: run test/tools/install.sh", name)
		}
	}
	return path
}

// tapped has the node's tap, if there is one, see a message.
func (n *node) tapped(m proxy.Message) (bool, func()) {
	tap := n.tap.Load()
	if tap == nil {
		return false, nil
	}
	return (*tap)(m)
}
