package console_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/lithify/lithify/console"
	"github.com/lithify/lithify/jobs"
	convertjob "github.com/lithify/lithify/jobs/convert"
	removejob "github.com/lithify/lithify/jobs/remove"
	restorejob "github.com/lithify/lithify/jobs/restore"
	rolloutjob "github.com/lithify/lithify/jobs/rollout"
	rolloutrun "github.com/lithify/lithify/jobs/rollout/run"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/worker"
)

const operatorKey = "the key of an operator"

// hostile is what a page must show as the text that it is.
const hostile = `<script>alert("owned")</script><img src=x onerror=alert(1)>'"&{{.}}` + "\rdata: x\u202e"

// pagePool is a real pool with its console. What its jobs do is in their words: a
// conversion whose target has "fails" in it fails, one that has "holds" runs until release;
// a restore whose name ends with -3 fails, and all others wait for gate.
type pagePool struct {
	*queue.Client
	t       *testing.T
	url     string
	release chan struct{}
	gate    chan struct{}

	stopConsole func()
}

func startPagePool(t *testing.T, cfg console.Config) *pagePool {
	t.Helper()
	client, log, run := startQueue(t, slog.LevelInfo)
	p := &pagePool{Client: client, t: t, release: make(chan struct{}), gate: make(chan struct{})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.url = "http://" + l.Addr().String()
	console := console.New(client, cfg.WithOperator(operatorKey), log)
	alone, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	p.stopConsole = stop
	run(func(ctx context.Context) error {
		defer context.AfterFunc(ctx, stop)()
		return console.Run(alone, l, "", "")
	})
	for _, node := range []string{"node-1", "node-2"} {
		w, err := worker.New(client, p.mux(), worker.Config{Name: "worker-of-" + node, Node: node, Slots: 8, Grace: time.Millisecond, Log: log,
			Labels: queue.Labels{"zone": "a"}})
		if err != nil {
			t.Fatal(err)
		}
		run(w.Run)
	}
	return p
}

func (p *pagePool) mux() *jobs.Mux {
	var m jobs.Mux
	jobs.Handle(&m, func(ctx context.Context, a convertjob.Args) (any, error) {
		jobs.Event(ctx, "layer converted", "layer", hostile, "size", 1234)
		jobs.Log(ctx, []byte("a line\n"+hostile+"\n"))
		switch {
		case strings.Contains(a.Target, "fails"):
			return nil, jobs.Permanent(errors.New("manifest unknown: " + hostile + "\nand more of it"))
		case strings.Contains(a.Target, "holds"):
			return "released", hold(ctx, p.release)
		}
		return map[string]string{"digest": "sha256:" + hostile}, nil
	})
	jobs.Handle(&m, func(ctx context.Context, a restorejob.Args) (any, error) {
		if strings.HasSuffix(a.Name, "-3") {
			return nil, jobs.Permanent(errors.New("no CRIU on " + a.Node + " " + hostile))
		}
		return "restored", hold(ctx, p.gate)
	})
	jobs.Handle(&m, func(context.Context, removejob.Args) (any, error) { return "removed", nil })
	rolloutrun.Register(&m)
	return &m
}

func hold(ctx context.Context, until <-chan struct{}) error {
	for {
		select {
		case <-until:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
			jobs.Alive(ctx, 1)
		}
	}
}

func (p *pagePool) submit(a jobs.Args, o jobs.Options) jobs.ID {
	p.t.Helper()
	st, err := p.Submit(p.t.Context(), newJob(p.t, a, o))
	if err != nil {
		p.t.Fatal(err)
	}
	return st.ID
}

// ended waits for jobs.
func (p *pagePool) ended(ids ...jobs.ID) {
	p.t.Helper()
	for _, id := range ids {
		if _, err := p.Wait(p.t.Context(), id); err != nil {
			p.t.Fatal(err)
		}
	}
}

// until asks for a page until it is as wanted.
func (p *pagePool) until(b *browser, path string, good func(body string) bool) string {
	p.t.Helper()
	last := ""
	for begin := time.Now(); time.Since(begin) < time.Minute; time.Sleep(50 * time.Millisecond) {
		if _, last = b.get(path); good(last) {
			return last
		}
	}
	p.t.Fatalf("%s is not as wanted: %s", path, last)
	return ""
}

func newRollout(name string, replicas, wave int) rolloutjob.Args {
	return rolloutjob.Args{Restore: restorejob.Args{Source: "registry.example.com/web:saved", Name: name, Refresh: "echo '" + hostileScript + "'"},
		Nodes: []string{"node-1", "node-2"}, Replicas: replicas, Wave: wave, MaxFailed: 1}
}

const hostileScript = `<script>alert(2)</script>`

// browser keeps cookies, follows no redirect, and runs nothing.
type browser struct {
	t    *testing.T
	base string
	*http.Client
}

func (p *pagePool) browser() *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return &browser{p.t, p.url, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// operator is a browser that is logged in.
func (p *pagePool) operator() *browser {
	p.t.Helper()
	b := p.browser()
	b.login(operatorKey)
	return b
}

func (b *browser) login(secret string) {
	b.t.Helper()
	if resp, body := b.post("/login", url.Values{"secret": {secret}, "to": {"/"}}, nil); resp.StatusCode != http.StatusSeeOther {
		b.t.Fatalf("login: %d %s", resp.StatusCode, body)
	}
}

func (b *browser) get(path string) (int, string) {
	b.t.Helper()
	resp, body := b.do(http.MethodGet, path, nil, nil)
	return resp.StatusCode, body
}

func (b *browser) post(path string, form url.Values, header http.Header) (*http.Response, string) {
	b.t.Helper()
	return b.do(http.MethodPost, path, form, header)
}

func (b *browser) do(method, path string, form url.Values, header http.Header) (*http.Response, string) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := b.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp, string(body)
}

// follow reads what is sent of a page until stop, which is also called at the end of the test.
func (b *browser) follow(path string) (events <-chan string, stop func()) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.base+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html, text/event-stream")
	resp, err := b.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	if ct := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || ct != "text/event-stream" {
		b.t.Fatalf("%s: %d %s", path, resp.StatusCode, ct)
	}
	out := make(chan string)
	go func() {
		defer close(out)
		defer resp.Body.Close()
		for event := range readEvents(resp.Body) {
			select {
			case out <- event:
			case <-ctx.Done():
				return
			}
		}
	}()
	stop = func() {
		cancel()
		for range out {
		}
	}
	b.t.Cleanup(stop)
	return out, stop
}

// await is the first event that is as wanted.
func await(t *testing.T, events <-chan string, good func(string) bool) string {
	t.Helper()
	timeout := time.After(time.Minute)
	last := ""
	for {
		select {
		case e, more := <-events:
			if last = e; !more {
				t.Fatal("the stream has ended")
			}
			if good(e) {
				return e
			}
		case <-timeout:
			t.Fatalf("nothing is as wanted, the last was %s", last)
		}
	}
}

func has(parts ...string) func(string) bool {
	return func(body string) bool {
		for _, p := range parts {
			if !strings.Contains(body, p) {
				return false
			}
		}
		return true
	}
}

// readEvents gives the type and data of server-sent events, as "type\ndata".
func readEvents(r io.Reader) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		kind, data := "", []string{}
		for line := range scan(r) {
			field, value, _ := strings.Cut(line, ": ")
			switch field {
			case "event":
				kind = value
			case "data":
				data = append(data, value)
			case "":
				if (kind != "" || len(data) > 0) && !yield(kind+"\n"+strings.Join(data, "\n")) {
					return
				}
				kind, data = "", nil
			}
		}
	}
}

func text(n int) string { return fmt.Sprintf("registry.example.com/app:%04d", n) }
