package wine_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"

	"github.com/lithify/lithify/jobs"
	convertjob "github.com/lithify/lithify/jobs/convert"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/natsd"
	"github.com/lithify/lithify/test/wine"
)

// winService is lithify-worker as a service of Windows. Wine's services neither restart nor pass on a
// shutdown, and they all have the same account; its files are all of one owner, who is no
// administrator, so that the directory of a service that was there before is refused.
type winService struct {
	*wine.Prefix
	exe string
}

// do runs lithify-worker service.
func (s winService) do(t *testing.T, args ...string) string {
	t.Helper()
	return output(t, s.Command(t.Context(), s.exe, nil, append([]string{"service"}, args...)...))
}

// refuses checks that it does not do, and what it says.
func (s winService) refuses(t *testing.T, want string, args ...string) {
	t.Helper()
	out, err := s.Command(t.Context(), s.exe, nil, append([]string{"service"}, args...)...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), want) {
		t.Errorf("service %v: %v: %s; want an error that says %q", args, err, out, want)
	}
}

// is waits until its status says so.
func (s winService) is(t *testing.T, want string) (said string) {
	t.Helper()
	for since := time.Now(); time.Since(since) < patience; {
		if said = s.do(t, "status"); strings.Contains(said, want+"\n") || strings.Contains(said, want+"\r\n") {
			return said
		}
	}
	t.Errorf("status: %s; want %q", said, want)
	return said
}

// install makes it one of a pool, with the directory of none before. The key is named from where
// the command is given.
func (s winService) install(t *testing.T, pool *natsd.Server, flags ...string) {
	t.Helper()
	if err := os.RemoveAll(s.dir()); err != nil {
		t.Fatal(err)
	}
	key := pool.Client().NkeyFile
	cmd := s.Command(t.Context(), s.exe, nil, append([]string{"service", "install", "--name", "as-service", "--slots", "1", "--nats", pool.URL(), "--nkey", filepath.Base(key)}, flags...)...)
	cmd.Dir = filepath.Dir(key)
	output(t, cmd)
}

// dir is the service's own.
func (s winService) dir() string { return filepath.Join(s.Drive(), "ProgramData", "lithify") }

func (s winService) log(t *testing.T) string {
	t.Helper()
	return string(read(t, s.dir(), "logs", "lithify-worker.log"))
}

// A worker is installed as a service, has its place in a pool, stops when its job has ended and is
// uninstalled.
func testService(t *testing.T, p *wine.Prefix, source, want string) {
	s := winService{p, p.Program(t, "worker", worker)}
	server, client, _ := startQueue(t)
	schedule(t, client)
	s.refuses(t, "it is not installed", "start")
	s.install(t, server)
	s.refuses(t, "it is installed", "install", "--nats", server.URL())
	s.do(t, "start")
	s.refuses(t, "it is running", "start")
	checkDrain(t, client, source, want, func() { s.do(t, "stop") })
	s.is(t, "stopped")
	if text := s.log(t); !strings.Contains(text, "host checked") {
		t.Errorf("log: %s", text)
	}
	s.do(t, "uninstall")
	s.refuses(t, "it is not installed", "status")
	s.refuses(t, "icacls", "install", "--nats", server.URL())
	s.refuses(t, "it is not installed", "status")
	if testing.Short() {
		return
	}
	t.Run("hands back", func(t *testing.T) { testHandsBack(t, s, server, client, source, want) })
	t.Run("waits", func(t *testing.T) { testWaits(t, s, server) })
}

// testHandsBack stops a service whose job does not end within its grace: the queue has it again, and the
// service does it when it is started again.
func testHandsBack(t *testing.T, s winService, server *natsd.Server, client *queue.Client, source, want string) {
	s.install(t, server, "--grace", "100ms")
	s.do(t, "start")
	behind, asked, answer := slowRegistry(t, source)
	id := submit(t, client, behind, source+"-handed")
	receive(t, asked, "its worker has a job")
	s.do(t, "stop")
	s.is(t, "stopped")
	st, err := client.Get(t.Context(), id)
	if err != nil || st.State != jobs.Queued {
		t.Errorf("%v: %+v; want that it is queued", err, st.Record)
	}
	answer()
	s.do(t, "start")
	ctx, stop := context.WithTimeout(t.Context(), 2*patience)
	defer stop()
	if st, err := client.Wait(ctx, id); err != nil || st.State != jobs.Done {
		t.Errorf("%v: %+v", err, st.Record)
	}
	if got, err := crane.Digest(source+"-handed", crane.Insecure); err != nil || got != want {
		t.Errorf("in the end it becomes %s, elsewhere %s: %v", got, want, err)
	}
	s.do(t, "uninstall")
}

// testWaits stops a service whose queue does not answer, which is no failure, and starts it
// where there is no queue, which is.
func testWaits(t *testing.T, s winService, server *natsd.Server) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s.install(t, server, "--nats", "nats://"+l.Addr().String())
	s.do(t, "start")
	accepted := make(chan net.Conn, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			accepted <- c
		}
	}()
	conn := receive(t, accepted, "the service asks for its queue")
	defer conn.Close()
	stopped := make(chan error, 1)
	go func() { stopped <- s.Command(t.Context(), s.exe, nil, "service", "stop").Run() }()
	s.is(t, "stopping")
	conn.Close()
	if err := receive(t, stopped, "the service stops"); err != nil {
		t.Errorf("stop: %v", err)
	}
	s.is(t, "stopped")
	l.Close()
	_ = s.Command(t.Context(), s.exe, nil, "service", "start").Run() // which may see its end, too
	s.is(t, "stopped with code 1, of which the log has more")
	if text := s.log(t); !strings.Contains(text, "stopped before it took jobs") || !strings.Contains(text, "lithify-worker: connect to") {
		t.Errorf("log: %s", text)
	}
	s.do(t, "uninstall")
}

// submit has a job convert an image.
func submit(t *testing.T, client *queue.Client, source, target string) jobs.ID {
	t.Helper()
	job, err := jobs.New(convertjob.Args{Source: source, Output: convertjob.Output{Target: target, Insecure: true}}, jobs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Submit(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	return job.ID
}

// receive waits for what happens.
func receive[T any](t *testing.T, from <-chan T, what string) (got T) {
	t.Helper()
	select {
	case got = <-from:
	case <-time.After(2 * patience):
		t.Fatalf("not within %v: %s", 2*patience, what)
	}
	return got
}

// checkDrain stops a worker whose job reads from a registry that takes its time: the job ends,
// and is what it is elsewhere.
func checkDrain(t *testing.T, client *queue.Client, source, want string, stop func()) {
	t.Helper()
	behind, asked, answer := slowRegistry(t, source)
	id := submit(t, client, behind, source+"-drained")
	receive(t, asked, "a worker has the job")
	drains := make(chan error, 1)
	go func() {
		defer answer()
		drains <- until(t.Context(), client, func(n queue.Node) bool { return n.Name == "as-service" && n.Draining && len(n.Running) == 1 })
	}()
	stop()
	if err := <-drains; err != nil {
		t.Errorf("no worker that is to stop and has its job: %v", err)
	}
	st, err := client.Get(t.Context(), id)
	if err != nil || st.State != jobs.Done || st.Attempt != 1 {
		t.Errorf("%v: %+v; want that it is done", err, st.Record)
	}
	if got, err := crane.Digest(source+"-drained", crane.Insecure); err != nil || got != want {
		t.Errorf("while the worker stops it becomes %s, elsewhere %s: %v", got, want, err)
	}
}

// slowRegistry is another way to a registry, on which blobs come when answer has been called.
// asked is closed when one has been asked for.
func slowRegistry(t *testing.T, source string) (behind string, asked chan struct{}, answer func()) {
	t.Helper()
	host, repo, _ := strings.Cut(source, "/")
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: host})
	asked, slow := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(asked) })
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			once()
			select {
			case <-slow:
			case <-r.Context().Done():
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	answer = sync.OnceFunc(func() { close(slow) })
	t.Cleanup(answer)
	return strings.TrimPrefix(s.URL, "http://") + "/" + repo, asked, answer
}

// until waits for a worker of the pool.
func until(ctx context.Context, client *queue.Client, is func(queue.Node) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for tick := time.NewTicker(100 * time.Millisecond); ; {
		all, err := client.Workers(ctx)
		if err != nil || slices.ContainsFunc(all, is) {
			return err
		}
		<-tick.C
	}
}
