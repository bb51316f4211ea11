package wine_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"

	"github.com/lithify/lithify/jobs"
	convertjob "github.com/lithify/lithify/jobs/convert"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/test/wine"
)

// A worker is installed as a service of Windows, has its place in a pool, stops when its job has
// ended and is uninstalled. Wine's services neither restart nor pass on a shutdown, and they all
// have the same account.
func testService(t *testing.T, p *wine.Prefix, source, want string) {
	exe := p.Program(t, "worker", worker)
	server, client, _ := startQueue(t)
	schedule(t, client)
	service := func(args ...string) string {
		return output(t, p.Command(t.Context(), exe, nil, append([]string{"service"}, args...)...))
	}
	service("install", "--name", "as-service", "--slots", "1", "--nats", server.URL(), "--nkey", wine.Path(server.Client().NkeyFile))
	service("start")
	if err := until(t.Context(), client, func(n queue.Node) bool { return n.Name == "as-service" }); err != nil {
		t.Fatal(err)
	}
	said := service("status")
	if !strings.Contains(said, "running") {
		t.Errorf("status: %s", said)
	}
	checkDrain(t, client, source, want, func() { service("stop") })
	if said := service("status"); !strings.Contains(said, "stopped") {
		t.Errorf("status: %s", said)
	}
	_, log, _ := strings.Cut(said, "log\t")
	log, _, _ = strings.Cut(log, "\n")
	if text := output(t, p.Command(t.Context(), "cmd", nil, "/c", "type", log)); !strings.Contains(text, "host checked") {
		t.Errorf("%s: %s", log, text)
	}
	service("uninstall")
	if out, err := p.Command(t.Context(), exe, nil, "service", "status").CombinedOutput(); err == nil {
		t.Errorf("uninstalled: %s", out)
	}
}

// checkDrain stops a worker whose job reads from a registry that takes its time: the job ends,
// and is what it is elsewhere.
func checkDrain(t *testing.T, client *queue.Client, source, want string, stop func()) {
	t.Helper()
	behind, asked, answer := slowRegistry(t, source)
	job, err := jobs.New(convertjob.Args{Source: behind, Output: convertjob.Output{Target: source + "-drained", Insecure: true}}, jobs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Submit(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	<-asked
	drains := make(chan error, 1)
	go func() {
		defer answer()
		drains <- until(t.Context(), client, func(n queue.Node) bool { return n.Draining && len(n.Running) == 1 })
	}()
	stop()
	if err := <-drains; err != nil {
		t.Errorf("no worker that is to stop and has its job: %v", err)
	}
	st, err := client.Get(t.Context(), job.ID)
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
