//go:build linux

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// network is a network namespace. From inside nothing is reached but, by relays, what
// listens on this machine's loopback: under the same addresses.
type network struct{ file string }

func newNetwork(t testing.TB) *network {
	t.Helper()
	needRoot(t)
	n := &network{filepath.Join(t.TempDir(), "net")}
	if err := os.WriteFile(n.file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	within(t, func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() {
		if err := loopbackUp(); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), n.file, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { unix.Unmount(n.file, unix.MNT_DETACH) })
	return n
}

// in has f run in the namespace: what it listens on and what it starts are there.
func (n *network) in(t testing.TB, f func()) {
	t.Helper()
	within(t, func() error {
		ns, err := os.Open(n.file)
		if err != nil {
			return err
		}
		defer ns.Close()
		return unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
	}, f)
}

// within runs f on a thread that has entered a namespace, and has the thread leave it.
func within(t testing.TB, enter func() error, f func()) {
	t.Helper()
	runtime.LockOSThread()
	home, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(err) // no test could go on with this thread
		}
		home.Close()
		runtime.UnlockOSThread()
	}()
	if err := enter(); err != nil {
		t.Fatal(err)
	}
	f()
}

func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, ifr)
}

// relay listens in the namespace on an address of this machine's loopback, and passes on what
// comes until cut is called: then all of it is over, as when a cable is pulled.
func (n *network) relay(t testing.TB, address string) (cut func()) {
	t.Helper()
	var l net.Listener
	n.in(t, func() {
		var err error
		if l, err = net.Listen("tcp", address); err != nil {
			t.Fatal(err)
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { pass(ctx, in, address) })
		}
	})
	cut = func() {
		cancel()
		l.Close()
		running.Wait()
	}
	t.Cleanup(cut)
	return cut
}

// pass copies both ways until one end or ctx is done.
func pass(ctx context.Context, in net.Conn, address string) {
	defer in.Close()
	out, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer out.Close()
	stop := context.AfterFunc(ctx, func() { in.Close(); out.Close() })
	defer stop()
	var both sync.WaitGroup
	copies := func(to, from net.Conn) {
		io.Copy(to, from)
		to.(*net.TCPConn).CloseWrite()
	}
	both.Go(func() { copies(out, in) })
	both.Go(func() { copies(in, out) })
	both.Wait()
}

// node is a machine of a fleet: a containerd and a worker in a network namespace.
type node struct {
	*daemon
	name    string
	network *network
	worker  *process
	cut     []func()
}

// machines is a pool with nodes, and with a registry that all reach.
type machines struct {
	*pool
	registry string
	nodes    []*node
}

func startFleet(t *testing.T, names ...string) *machines {
	t.Helper()
	need(t, "criu")
	f := &machines{pool: startPool(t, 1), registry: startRegistry(t)}
	for _, name := range names {
		n := &node{name: name, network: newNetwork(t)}
		for _, address := range []string{f.registry, f.nats} {
			n.cut = append(n.cut, n.network.relay(t, address))
		}
		n.network.in(t, func() { n.daemon = startContainerd(t) })
		f.nodes = append(f.nodes, n)
		f.join(t, n)
	}
	return f
}

// join starts the node's worker, and waits until the pool has it.
func (f *machines) join(t *testing.T, n *node, flags ...string) {
	t.Helper()
	args := append([]string{"--containerd", n.address, "--node", n.name, "--label", "fleet=web", "--restore-from", f.registry + "/", "--restore-root", n.restoreRoot()}, flags...)
	n.network.in(t, func() { n.worker, _ = f.pool.worker(t, n.name, args...) })
	f.lists(t, n.name)
}

// leaves has the node's worker stop, and waits until the pool knows.
func (f *machines) leaves(t *testing.T, n *node) {
	t.Helper()
	if err := n.worker.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	<-n.worker.ended
	await(t, "worker "+n.name+" to be gone", func(context.Context) error {
		if list := f.output(t, "workers"); strings.Contains(list, "\n"+n.name+" ") {
			return errors.New(list)
		}
		return nil
	})
}

// dies ends the node as a power cut does, but for its containers: nobody reaches them.
func (n *node) dies(t *testing.T) {
	t.Helper()
	for _, cut := range n.cut {
		cut()
	}
	for _, p := range []*process{n.worker, n.daemon.process} {
		if err := p.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-p.ended
	}
}

// rollOut begins to restore ref as NAME-1 and so on.
func (f *machines) rollOut(t *testing.T, name string, replicas int, ref string, flags ...string) *process {
	t.Helper()
	for i := range replicas {
		f.nodes[i%len(f.nodes)].restored(t, fmt.Sprintf("%s-%d", name, i+1))
	}
	args := append([]string{"submit", "rollout", "--wait", "--insecure", "--selector", "fleet=web", "--replicas", fmt.Sprint(replicas), "--name", name}, flags...)
	return start(t, f.command(t, lithify(t), append(args, ref)...))
}

// rolledOut waits for its end, and gives what it printed.
func (p *process) rolledOut() (out string, err error) {
	<-p.ended
	<-p.quiet
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String(), p.err
}

// saved starts a container that counts on the first node, and has the pool checkpoint it.
func (f *machines) saved(t *testing.T) (c *container, ref string) {
	t.Helper()
	base, first := f.registry+"/base:1", f.nodes[0]
	push(t, debianThat(t, 2, counts), base)
	first.pullFor(base, "overlayfs", "")
	c = first.start(t, "one", base, "overlayfs", "", "--null-io")
	c.goesOn(t, 3)
	ref = f.output(t, "submit", "checkpoint", "--wait", "--insecure", "--node", first.name, c.id, f.registry+"/saved:1")
	return c, strings.TrimSpace(ref)
}

// TestFleet rolls a checkpoint out over three machines, each in a network of its own: over all
// of them, paused and aborted in the middle, and with one that must not restore it.
func TestFleet(t *testing.T) {
	hold, at, release := holdCRIU(t)
	f := startFleet(t, "a", "b", "c")
	c, ref := f.saved(t)

	out, err := f.rollOut(t, "web", 6, ref, "--hostname", "web", "--canary", "1", "--wave", "3").rolledOut()
	if err != nil || !strings.HasSuffix(out, "a web-1\nb web-2\nc web-3\na web-4\nb web-5\nc web-6\n") {
		t.Fatalf("%v, %s: want six containers on three nodes", err, out)
	}
	for i, n := range f.nodes {
		if diff := cmp.Diff([]string{fmt.Sprintf("web-%d", i+1), fmt.Sprintf("web-%d", i+4)}, n.has("web-")); diff != "" {
			t.Errorf("node %s (-want +got):\n%s", n.name, diff)
		}
		for _, id := range n.has("web-") {
			r := &container{n.daemon, id, ""}
			r.goesOn(t, r.count(t))
			if got := r.does(t, "hostname"); got != id+"\n" {
				t.Errorf("%s has the hostname %q", id, got)
			}
		}
	}

	// Paused in the first of two waves: the second begins with the resumption, and that of
	// somebody else is not kept.
	hold()
	p := f.rollOut(t, "held", 6, ref, "--wave", "3")
	at()
	id := p.says(t, "job", func(line string) (string, bool) { return strings.CutPrefix(line, "job ") })
	f.output(t, "rollout", "pause", "--reason", "lunch", id)
	release()
	await(t, "the rollout to be held", func(context.Context) error {
		said := f.output(t, "jobs", "explain", id)
		if !strings.HasPrefix(said, id+" is queued") || !strings.Contains(said, "job "+id+" is paused") {
			return errors.New(said)
		}
		return nil
	})
	if out, err := f.rollOut(t, "free", 3, ref).rolledOut(); err != nil {
		t.Errorf("%v, %s: want another rollout to go on", err, out)
	}
	for _, n := range f.nodes {
		if got := n.has("held-"); len(got) != 1 {
			t.Errorf("node %s has %q of a rollout that is paused after one wave", n.name, got)
		}
	}
	if said := f.output(t, "rollout", "status", id); strings.Count(said, " done ") != 3 || strings.Count(said, " wanted ") != 3 || !strings.Contains(said, ": lunch\n") {
		t.Errorf("status of a rollout that is paused: %s", said)
	}
	f.output(t, "rollout", "resume", id)
	if out, err := p.rolledOut(); err != nil || !strings.HasSuffix(out, "c held-6\n") {
		t.Errorf("%v, %s: want it to go on", err, out)
	}

	// Aborted while the first of its two waves is restored. A second time there is nothing to do.
	hold()
	p = f.rollOut(t, "stop", 6, ref, "--wave", "3")
	at()
	id = p.says(t, "job", func(line string) (string, bool) { return strings.CutPrefix(line, "job ") })
	abort := start(t, f.command(t, lithify(t), "rollout", "abort", id))
	release()
	if out, err := abort.rolledOut(); err != nil || out != "a stop-1\nb stop-2\nc stop-3\n" {
		t.Errorf("%v, %s: want the containers of one wave", err, out)
	}
	if out, err := p.rolledOut(); err == nil || !strings.Contains(out, "aborted") {
		t.Errorf("%v, %s: want it aborted", err, out)
	}
	for _, n := range f.nodes {
		if got := n.has("stop-"); len(got) > 0 {
			t.Errorf("node %s has %q of what was aborted", n.name, got)
		}
	}
	f.output(t, "rollout", "abort", id)

	// The third of all must not restore it: of one that may fail, the others stay.
	bad := f.nodes[2]
	f.leaves(t, bad)
	f.join(t, bad, "--restore-key", publicOf(t, ledgerKey(t)))
	out, err = f.rollOut(t, "some", 3, ref, "--max-failed", "1").rolledOut()
	if err != nil || !strings.Contains(out, "a some-1\nb some-2\n") || !strings.Contains(out, "some-3 on c") || len(bad.has("some-")) > 0 {
		t.Errorf("%v, %s: want those of two nodes, and none on c", err, out)
	}
	out, err = f.rollOut(t, "none", 3, ref).rolledOut()
	if err == nil || !strings.Contains(out, "none-3 on c") || !strings.Contains(out, "sign") {
		t.Errorf("%v, %s: want it given up because of c", err, out)
	}
	for _, n := range f.nodes {
		if got := n.has("none-"); len(got) > 0 {
			t.Errorf("node %s has %q of what was taken back", n.name, got)
		}
	}

	c.goesOn(t, c.count(t))
}

// TestFleetDies has a machine die while a container is restored on it. Its wave waits a minute
// longer than the container may take, for a worker ends its job itself if it can, and what
// the others have restored is taken back.
func TestFleetDies(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a machine that is gone: long lane")
	}
	hold, at, release := holdCRIU(t)
	f := startFleet(t, "a", "b", "c")
	c, ref := f.saved(t)
	hold()
	p := f.rollOut(t, "gone", 3, ref, "--wave", "3", "--container-timeout", "15s")
	at()
	f.nodes[1].dies(t)
	release()
	out, err := p.rolledOut()
	if err == nil || !strings.Contains(out, "gone-2 on b") {
		t.Errorf("%v, %s: want it given up because of b", err, out)
	}
	for _, n := range []*node{f.nodes[0], f.nodes[2]} {
		if got := n.has("gone-"); len(got) > 0 {
			t.Errorf("node %s has %q of what was taken back", n.name, got)
		}
	}
	c.goesOn(t, c.count(t))
}

// has are a node's containers of a name, running or not.
func (n *node) has(prefix string) (names []string) {
	for id := range strings.FieldsSeq(n.ctr("containers", "ls", "-q")) {
		if strings.HasPrefix(id, prefix) {
			names = append(names, id)
		}
	}
	return names
}
