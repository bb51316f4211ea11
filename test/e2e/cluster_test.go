//go:build linux

package e2e_test

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/nats-io/nats.go/jetstream"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/jobs"
	convertjob "github.com/lithify/lithify/jobs/convert"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/test/corpus"
)

// cluster is three servers as deploy/nats/cluster.conf has them, two schedulers and
// two workers, each a process of its own.
type cluster struct {
	*queue.Client
	t          *testing.T
	pool       pool
	flags      []string // that reach it
	key        string   // of the ledger
	nodes      map[string]func() *process
	servers    map[string]*process
	schedulers map[string]*process
	workers    map[string]*process
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, pool: pool{home: t.TempDir()}, key: ledgerKey(t), nodes: map[string]func() *process{},
		servers: map[string]*process{}, schedulers: map[string]*process{}, workers: map[string]*process{}}
	public, seed := poolKey(t)
	addrs := freeAddrs(t, 6)
	var routes, urls []string
	for i := range 3 {
		urls = append(urls, "nats://"+addrs[i])
		routes = append(routes, "nats://lithify:secret@"+addrs[3+i])
	}
	for i := range 3 {
		name := fmt.Sprintf("n%d", i+1)
		env := []string{"LITHIFY_NODE=" + name, "LITHIFY_ROUTES=[" + strings.Join(routes, ", ") + "]", "LITHIFY_SECRET=secret", "LITHIFY_NKEY=" + public}
		config := natsConfig(t, "cluster.conf", env, "0.0.0.0:4222", addrs[i], "0.0.0.0:6222", addrs[3+i], "/var/lib/nats", t.TempDir())
		c.nodes[name] = func() *process { return natsServer(t, config, env...) }
		c.servers[name] = c.nodes[name]()
	}
	for _, s := range c.servers {
		s.address(t)
	}
	c.flags = []string{"--nats", strings.Join(urls, ","), "--nkey", seed}
	client, err := queue.Connect(t.Context(), queue.Config{URL: strings.Join(urls, ","), NkeyFile: seed, Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	c.Client = client
	return c
}

// freeAddrs are addresses of this machine that nobody listens on.
func freeAddrs(t *testing.T, n int) (addrs []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
	}
	return addrs
}

func (c *cluster) scheduler(name string) {
	c.t.Helper()
	args := append([]string{"--name", name, "--replicas", "3"}, c.flags...)
	c.schedulers[name] = start(c.t, c.pool.command(c.t, program(c.t, "lithify-scheduler", "../../cmd/scheduler"), args...))
}

func (c *cluster) worker(name string) {
	c.t.Helper()
	c.workers[name], _ = c.pool.worker(c.t, name, append([]string{"--ledger-key", c.key}, c.flags...)...)
}

// kill ends a process as a power cut does, and says when.
func (c *cluster) kill(p *process) time.Time {
	c.t.Helper()
	if err := p.Process.Kill(); err != nil {
		c.t.Fatal(err)
	}
	<-p.ended
	return time.Now()
}

// leader waits for a scheduler that leads, other than one.
func (c *cluster) leader(not string) (name string) {
	c.t.Helper()
	await(c.t, "leader", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		found, err := c.Schedulers(ctx)
		for _, s := range found {
			if s.Leads && s.Name != not {
				name = s.Name
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("none of %+v", found))
	})
	return name
}

// streamLeader is the server that leads a stream.
func (c *cluster) streamLeader(stream string) (name string) {
	c.t.Helper()
	await(c.t, "leader of "+stream, func(ctx context.Context) error {
		s, err := c.JetStream().Stream(ctx, stream)
		if err != nil {
			return err
		}
		if name = s.CachedInfo().Cluster.Leader; name == "" {
			return errors.New("none")
		}
		return nil
	})
	return name
}

// whole waits until each stream is on all three servers.
func (c *cluster) whole() {
	c.t.Helper()
	await(c.t, "three replicas of all", func(ctx context.Context) error {
		streams := c.JetStream().ListStreams(ctx)
		n := 0
		for info := range streams.Info() {
			n++
			if info.Cluster == nil || len(info.Cluster.Replicas) != 2 {
				return fmt.Errorf("stream %s has replicas %+v", info.Config.Name, info.Cluster)
			}
			for _, r := range info.Cluster.Replicas {
				if !r.Current || r.Offline {
					return fmt.Errorf("stream %s: %+v", info.Config.Name, r)
				}
			}
		}
		if n == 0 {
			return errors.New("no stream")
		}
		return streams.Err()
	})
}

// load submits conversions, and remembers what was accepted.
type load struct {
	*cluster
	registry string
	sources  int

	mu       sync.Mutex
	accepted map[jobs.ID]int // the source
}

func newLoad(c *cluster, sources int) *load {
	l := &load{cluster: c, registry: startRegistry(c.t), sources: sources, accepted: map[jobs.ID]int{}}
	for i := range sources {
		layer, err := corpus.Built(types.OCILayer, func(w *tar.Writer) error {
			text := strings.Repeat(fmt.Sprintf("image %d\n", i), 1000)
			if err := w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: int64(len(text))}); err != nil {
				return err
			}
			_, err := w.Write([]byte(text))
			return err
		})
		if err != nil {
			c.t.Fatal(err)
		}
		image, err := corpus.Image(corpus.Linux, nil, layer)
		if err != nil {
			c.t.Fatal(err)
		}
		push(c.t, image, l.source(i))
	}
	return l
}

func (l *load) source(i int) string { return fmt.Sprintf("%s/source:%d", l.registry, i) }

// submit has the pool convert one of the sources to a tag of its own.
func (l *load) submit(ctx context.Context, n int) (jobs.ID, error) {
	source := n % l.sources
	j, err := jobs.New(convertjob.Args{Source: l.source(source), Output: convertjob.Output{
		Target: fmt.Sprintf("%s/made:%d", l.registry, n), Insecure: true, LedgerRepo: convertjob.DefaultLedgerRepo}}, jobs.Options{})
	if err != nil {
		return "", err
	}
	st, err := l.Submit(ctx, j)
	if err != nil {
		return "", err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.accepted[st.ID] = source
	return st.ID, nil
}

// steady submits until stop.
func (l *load) steady(from int) (stop func()) {
	ctx, cancel := context.WithCancel(l.t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		for n, tick := from, time.Tick(100*time.Millisecond); ctx.Err() == nil; n++ {
			if _, err := l.submit(ctx, n); err != nil && ctx.Err() == nil {
				l.t.Logf("job %d not accepted: %v", n, err)
			}
			<-tick
		}
	})
	return func() { cancel(); running.Wait() }
}

// probe submits one more job and waits until it is done.
func (l *load) probe(n int) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 2**patience)
	defer cancel()
	id, err := l.submit(ctx, n)
	if err != nil {
		l.t.Fatal(err)
	}
	l.done(ctx, id)
}

func (l *load) done(ctx context.Context, id jobs.ID) queue.Status {
	l.t.Helper()
	for {
		st, err := l.Wait(ctx, id)
		if err == nil {
			if st.State != jobs.Done {
				l.t.Errorf("job %s is %s: %v", id, st.State, st.Err())
			}
			return st
		}
		if ctx.Err() != nil {
			l.t.Fatalf("job %s: %v", id, err)
		}
	}
}

// check waits for every accepted job: each is done, and all of one source made one
// image.
func (l *load) check() {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 3**patience)
	defer cancel()
	made := map[int]string{}
	again := 0
	for id, source := range l.accepted {
		st := l.done(ctx, id)
		var r struct{ Descriptor ocispec.Descriptor }
		if err := json.Unmarshal(st.Result, &r); err != nil {
			l.t.Errorf("job %s: %v", id, err)
			continue
		}
		if d := string(r.Descriptor.Digest); made[source] == "" {
			made[source] = d
		} else if made[source] != d {
			l.t.Errorf("job %s made %s of source %d, another %s", id, d, source, made[source])
		}
		if st.Attempt > 1 {
			again++
		}
	}
	l.t.Logf("%d jobs accepted, all done, %d of them at a later attempt", len(l.accepted), again)
}

// finals watches every record and reports one that is written after its job was done.
func (l *load) finals() (stop func()) {
	ctx, cancel := context.WithCancel(l.t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		done := map[jobs.ID]uint64{}
		for m, err := range l.Follow(ctx, queue.StreamState, jetstream.OrderedConsumerConfig{
			FilterSubjects: []string{queue.RunFilter}, DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy}) {
			if err != nil {
				if ctx.Err() == nil {
					l.t.Error(err)
				}
				return
			}
			ch, err := queue.DecodeChange(m)
			if err != nil {
				l.t.Error(err)
				return
			}
			if first := done[ch.Record.ID]; first != 0 && first != ch.Revision {
				l.t.Errorf("job %s was done at %d and is %s at %d", ch.Record.ID, first, ch.Record.State, ch.Revision)
			}
			if ch.Record.State == jobs.Done {
				done[ch.Record.ID] = ch.Revision
			}
		}
	})
	return func() { cancel(); running.Wait() }
}

// TestCluster kills the leader of the streams, the leading scheduler and a worker,
// each and then together, while jobs are submitted: each accepted job is done, once.
func TestCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes")
	}
	c := startCluster(t)
	c.scheduler("s1")
	first := c.leader("")
	c.scheduler("s2")
	c.worker("w1")
	c.worker("w2")
	c.whole()
	l := newLoad(c, 8)
	stopFinals := l.finals()
	l.probe(0)
	stop := l.steady(1000)

	other := map[string]string{"s1": "s2", "s2": "s1"}
	took := func(what string, since time.Time, lead string, bound time.Duration) {
		t.Helper()
		led := time.Since(since)
		l.probe(int(since.UnixNano() % 1e15))
		t.Logf("%s: %s leads after %v, a job submitted then is done after %v", what, lead, led.Round(time.Millisecond), time.Since(since).Round(time.Millisecond))
		if led > bound {
			t.Errorf("%s: take-over in %v, want within %v", what, led, bound)
		}
	}

	await(t, "standby", func(ctx context.Context) error {
		found, err := c.Schedulers(ctx)
		if len(found) != 2 {
			return errors.Join(err, errors.New("one scheduler"))
		}
		return nil
	})
	killed := c.kill(c.schedulers[first])
	took("scheduler killed", killed, c.leader(first), 20*time.Second)
	c.scheduler(first)

	node := c.streamLeader(queue.StreamState)
	killed = c.kill(c.servers[node])
	took("leader of STATE killed", killed, c.leader(""), *patience)
	c.servers[node] = c.nodes[node]()
	c.whole()

	killed = c.kill(c.workers["w1"])
	took("worker killed", killed, c.leader(""), *patience)
	c.worker("w1")

	lead := c.leader("")
	node = c.streamLeader("KV_schedulers")
	c.kill(c.workers["w2"])
	c.kill(c.schedulers[lead])
	killed = c.kill(c.servers[node])
	took("scheduler, a worker and the leader of its lease killed", killed, c.leader(lead), 40*time.Second)
	c.servers[node] = c.nodes[node]()
	c.scheduler(lead)
	c.worker("w2")
	c.whole()

	lead = c.leader("")
	if err := c.schedulers[lead].Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	took("scheduler stopped", stopped, c.leader(lead), 20*time.Second)
	if got := c.leader(""); got != other[lead] {
		t.Errorf("%s leads, want %s", got, other[lead])
	}
	stop()
	l.check()
	stopFinals()
}
