package auth_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/auth"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

// A worker in an account of its own does all that a worker does: it pulls, claims,
// submits jobs of the kind that its own wait for, writes history and announces
// itself.
func TestWorkerInItsAccount(t *testing.T) {
	p := newPool(t)
	p.scheduler()
	p.worker("images", images())
	client := p.connect(auth.ClientKey)
	st := p.wait(client, p.submit(client, imageArgs{[]string{"a", "b", "c"}}).ID)
	var got string
	if err := json.Unmarshal(st.Result, &got); err != nil || st.State != jobs.Done {
		t.Fatalf("job is %s (%+v): %v", st.State, st.Failure, err)
	}
	if got != "aabbcc" || st.Waits != 1 || st.Worker != "images.w1" {
		t.Errorf("got %q after %d waits by %s", got, st.Waits, st.Worker)
	}
	phrases := map[string]int{}
	for e, err := range client.Watch(t.Context(), st.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
		phrases[e.Phrase]++
	}
	if phrases["attempt started"] != 2 || phrases["waiting for other jobs"] != 1 {
		t.Errorf("history: %v", phrases)
	}
	var log []byte
	for part, err := range client.ReadLog(t.Context(), st.Children[1], 0) {
		if err != nil {
			t.Fatal(err)
		}
		log = append(log, part.Data...)
	}
	if string(log) != "b is doubled\n" {
		t.Errorf("log: %q", log)
	}
	nodes, err := client.Workers(t.Context())
	if err != nil || len(nodes) != 1 || nodes[0].Name != "images.w1" || len(nodes[0].Classes) != 2 {
		t.Errorf("workers: %+v, %v", nodes, err)
	}
}

// A worker in an account of its own may ask for no other; of itself it knows that it is
// back, when it gets a job again that it had lost.
func TestWorkerInItsAccountIsBack(t *testing.T) {
	p := newPool(t)
	if err := p.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	p.worker("images", images())
	for { // until it is there; its line has no consumer yet, so that it gets nothing
		ws, err := p.Workers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(ws) == 1 {
			break
		}
	}
	client := p.connect(auth.ClientKey)
	st := p.submit(client, imageArgs{})
	for _, name := range []string{"images.w1", "images.w2"} { // by a message that is gone
		var err error
		if st, err = p.Apply(t.Context(), st, jobs.Claim{Worker: name, Message: 7, At: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	p.run(scheduler.New(p.Client, validators, scheduler.Config{Sweep: 100 * time.Millisecond, Log: p.log}).Run)
	if st := p.wait(client, st.ID); st.State != jobs.Done || st.Attempt != 2 || st.Poisoned != 1 {
		t.Errorf("got %+v", st.Record)
	}
}

// A worker hears of a cancelled job at once, not with its next heartbeat.
func TestHintInItsAccount(t *testing.T) {
	p := newPool(t)
	p.run(scheduler.New(p.Client, validators, scheduler.Config{AckWait: time.Hour, Log: p.log}).Run)
	started, stopped := make(chan struct{}, 1), make(chan error, 1)
	m := &jobs.Mux{}
	jobs.Handle(m, func(ctx context.Context, _ otherArgs) (any, error) {
		started <- struct{}{}
		<-ctx.Done()
		stopped <- context.Cause(ctx)
		return nil, ctx.Err()
	})
	w, err := worker.New(p.connect(auth.WorkerKey("others")), m, worker.Config{Silence: time.Hour, Log: p.log})
	if err != nil {
		t.Fatal(err)
	}
	p.run(w.Run)
	client := p.connect(auth.ClientKey)
	id := p.submit(client, otherArgs{}).ID
	await(t, started, "start")
	if _, err := client.Cancel(t.Context(), id, "enough"); err != nil {
		t.Fatal(err)
	}
	if err := await(t, stopped, "end"); !errors.Is(err, worker.ErrLost) {
		t.Errorf("stopped by %v", err)
	}
}

func await[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s", what)
		panic("unreachable")
	}
}

// Who has the wrong key, or checks the server's certificate by another CA, is told so.
func TestWrongKeys(t *testing.T) {
	p := newPool(t)
	elsewhere := p.cfg
	elsewhere.Dir = filepath.Join(t.TempDir(), "elsewhere")
	other, err := auth.Init(elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	own := p.config(auth.ClientKey)
	for name, tc := range map[string]struct {
		change func(*queue.Config)
		is     func(error) bool
		says   string
	}{
		"key of another pool": {func(c *queue.Config) { c.NkeyFile = elsewhere.Path(auth.ClientKey) }, errdefs.IsUnauthorized, "Authorization"},
		"CA of another pool":  {func(c *queue.Config) { c.TLSCA = other.CA }, errdefs.IsUnauthorized, "--tls-ca"},
		"no CA":               {func(c *queue.Config) { c.TLSCA = "" }, errdefs.IsUnauthorized, "--tls-ca"},
		"no key":              {func(c *queue.Config) { c.NkeyFile = "" }, errdefs.IsUnauthorized, "Authorization"},
		"CA file missing":     {func(c *queue.Config) { c.TLSCA = "/none" }, errdefs.IsInvalidArgument, "/none"},
		"CA without one":      {func(c *queue.Config) { c.TLSCA = elsewhere.Path(auth.PublicKeys) }, errdefs.IsInvalidArgument, "no certificate"},
		"half a certificate":  {func(c *queue.Config) { c.TLSCert = c.TLSCA }, errdefs.IsInvalidArgument, "go together"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := own
			tc.change(&cfg)
			c, err := queue.Connect(t.Context(), cfg)
			if err == nil {
				c.Close()
				t.Fatal("connected")
			}
			if !tc.is(err) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestInit(t *testing.T) {
	workers := []auth.Worker{{Name: "w", Classes: []jobs.Class{class("image")}}}
	for name, tc := range map[string]struct {
		cfg  auth.Config
		says string
	}{
		"no server":         {auth.Config{Workers: workers}, "no server"},
		"both":              {auth.Config{Workers: workers, Hosts: []string{"a"}, Cluster: []string{"a", "b", "c"}}, "either"},
		"two servers":       {auth.Config{Workers: workers, Cluster: []string{"a", "b"}}, "outvote"},
		"a host with space": {auth.Config{Workers: workers, Hosts: []string{"a b"}}, "a b"},
		"no worker":         {auth.Config{Hosts: []string{"a"}}, "no worker"},
		"same name twice":   {auth.Config{Hosts: []string{"a"}, Workers: append(workers, workers...)}, "named w"},
		"name with a dot":   {auth.Config{Hosts: []string{"a"}, Workers: []auth.Worker{{Name: "a.b"}}}, "a.b"},
		"key without CA":    {auth.Config{Hosts: []string{"a"}, Workers: workers, TLSCert: "x", TLSKey: "y"}, "go together"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.cfg.Dir = filepath.Join(t.TempDir(), "auth")
			if _, err := auth.Init(tc.cfg); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v", err)
			}
			if _, err := os.Stat(tc.cfg.Dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("left behind: %v", err)
			}
		})
	}
	dir := t.TempDir()
	cfg := auth.Config{Dir: dir, Hosts: []string{"localhost"}, Workers: workers, Store: dir}
	made, err := auth.Init(cfg)
	if err != nil {
		t.Fatal(err)
	}
	there, err := os.ReadDir(dir)
	if err != nil || len(there) != len(made.Files) {
		t.Errorf("%d files and %d named, %v", len(there), len(made.Files), err)
	}
	for _, f := range made.Files {
		open := strings.HasSuffix(f.Path, "keys.json") || strings.HasSuffix(f.Path, ".pem") && !strings.Contains(f.Path, "-key")
		info, err := os.Stat(f.Path)
		if err != nil || f.For == "" || runtime.GOOS != "windows" && !open && info.Mode().Perm() != 0o600 {
			t.Errorf("%s (%s): %v, %v", f.Path, f.For, info.Mode(), err)
		}
	}
	seed, err := os.ReadFile(cfg.Path(auth.SchedulerKey))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := auth.Init(cfg); !errdefs.IsAlreadyExists(err) {
		t.Errorf("again: %v", err)
	}
	if now, err := os.ReadFile(cfg.Path(auth.SchedulerKey)); err != nil || string(now) != string(seed) {
		t.Errorf("the key was replaced: %v", err)
	}
}

// With certificates of one's own Init makes none.
func TestInitWithOwnCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := auth.Config{Dir: filepath.Join(dir, "first"), Hosts: []string{"127.0.0.1"}, Store: t.TempDir(), Workers: []auth.Worker{{Name: "w", Classes: []jobs.Class{class("image")}}}}
	first, err := auth.Init(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.TLSCert, cfg.TLSKey, cfg.TLSCA = cfg.Path("server.pem"), cfg.Path("server-key.pem"), first.CA
	cfg.Dir = filepath.Join(dir, "second")
	second, err := auth.Init(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if made, _ := filepath.Glob(filepath.Join(cfg.Dir, "*.pem")); len(made) > 0 || second.CA != first.CA {
		t.Errorf("made %v, CA %s", made, second.CA)
	}
	c, err := queue.Connect(t.Context(), queue.Config{URL: serve(t, second.Servers[0]), TLSCA: second.CA, NkeyFile: cfg.Path(auth.ClientKey)})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
