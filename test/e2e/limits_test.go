//go:build linux

package e2e_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sync/errgroup"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/jobs/all"
	"github.com/lithify/lithify/jobs/all/run"
	convertjob "github.com/lithify/lithify/jobs/convert"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/natsd"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

// busy is a registry that takes so many requests a second and refuses the rest.
type busy struct {
	host       string
	open       string // the same registry without limits
	per        float64
	retryAfter string

	mu      sync.Mutex
	tokens  float64
	at      time.Time
	taken   int
	refused int
	asked   []time.Time // of each request from the first that was refused
}

func startBusy(t *testing.T, per float64, retryAfter string) *busy {
	t.Helper()
	inner := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	b := &busy{per: per, retryAfter: retryAfter, tokens: per, at: time.Now()}
	for host, h := range map[*string]http.Handler{&b.open: inner, &b.host: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !b.takes() {
			w.Header().Set("Retry-After", b.retryAfter)
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		inner.ServeHTTP(w, r)
	})} {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		*host = strings.TrimPrefix(s.URL, "http://")
	}
	return b
}

func (b *busy) takes() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.tokens = min(b.tokens+b.per*now.Sub(b.at).Seconds(), max(b.per, b.tokens))
	b.at = now
	took := b.tokens >= 1
	if took {
		b.tokens--
		b.taken++
	} else {
		b.refused++
	}
	if b.refused > 0 {
		b.asked = append(b.asked, now)
	}
	return took
}

// serve has it take now requests at once and per a second after that.
func (b *busy) serve(now, per float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.per, b.tokens = per, now
}

func (b *busy) seen() (taken, refused int, asked []time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.taken, b.refused, append([]time.Time(nil), b.asked...)
}

// image puts one of two small layers behind the registry's back.
func (b *busy) image(t *testing.T, repo string) (src, dst string) {
	t.Helper()
	image, err := random.Image(2000, 2)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.NewTag(b.open+"/"+repo+":tar", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, image, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
	return b.host + "/" + repo + ":tar", b.host + "/" + repo + ":erofs"
}

// fleet has two workers with connections of their own convert images of one busy
// registry, and tells how often that refused.
func fleet(t *testing.T, images int, polite bool) (taken, refused int, states map[jobs.State]int) {
	b := startBusy(t, 40, "1")
	srv, err := natsd.Start(natsd.Config{Dir: t.TempDir(), ContextFile: "-", Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	connect := func() *queue.Client {
		c, err := queue.Connect(ctx, srv.Client())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	client := connect()
	defer client.Close()
	services, stop := context.WithCancel(ctx)
	var g errgroup.Group
	defer g.Wait()
	defer stop()
	s := connect()
	defer s.Close()
	g.Go(func() error { return scheduler.New(s, all.Validators(), scheduler.Config{}).Run(services) })
	for i := range 2 {
		c := connect()
		defer c.Close()
		h := convertrun.Handler{TempDir: t.TempDir()}
		if polite {
			if h.Limiter, err = c.Limiter(); err != nil {
				t.Fatal(err)
			}
		}
		w, err := worker.New(c, run.Handlers{Convert: h}.Mux(), worker.Config{Name: fmt.Sprint("w", i), Slots: 16})
		if err != nil {
			t.Fatal(err)
		}
		g.Go(func() error { return w.Run(services) })
	}
	var ids []jobs.ID
	for i := range images {
		src, dst := b.image(t, fmt.Sprint("app", i))
		j, err := jobs.New(convertjob.Args{Source: src, AllPlatforms: true, Output: convertjob.Output{Target: dst}}, jobs.Options{})
		if err != nil {
			t.Fatal(err)
		}
		st, err := client.Submit(ctx, j)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, st.ID)
	}
	states = map[jobs.State]int{}
	for _, id := range ids {
		st, err := client.Wait(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if states[st.State]++; st.State != jobs.Done {
			t.Log(st.ID, st.State, st.Failure)
		}
	}
	taken, refused, _ = b.seen()
	stop()
	return taken, refused, states
}

// TestPoliteFleet has a registry refuse far less of a fleet that shares its limit
// than of one in which each worker waits for itself.
func TestPoliteFleet(t *testing.T) {
	const images = 16
	began := time.Now()
	taken, polite, states := fleet(t, images, true)
	t.Logf("shared: %d taken, %d refused, %v, %v", taken, polite, states, time.Since(began).Round(time.Millisecond))
	if states[jobs.Done] != images {
		t.Errorf("ended as %v, want all done", states)
	}
	began = time.Now()
	taken, alone, states := fleet(t, images, false)
	t.Logf("each for itself: %d taken, %d refused, %v, %v", taken, alone, states, time.Since(began).Round(time.Millisecond))
	if polite*4 > alone {
		t.Errorf("refused %d times, and %d times without a limiter", polite, alone)
	}
}

// TestStorm has a registry refuse everything, with a wish for 3 s: no worker asks it
// meanwhile, jobs of another registry go on, and once it serves again all ends well.
func TestStorm(t *testing.T) {
	down, up := startBusy(t, 1000, "3"), startBusy(t, 1000, "1")
	p := startPool(t, 0)
	submit := func(b *busy, repo string) string {
		src, dst := b.image(t, repo)
		return strings.TrimSpace(p.output(t, "submit", "convert", "--all-platforms", "--insecure", src, dst))
	}
	var waiting []string
	for i := range 8 {
		waiting = append(waiting, submit(down, fmt.Sprint("down", i)))
	}
	down.serve(40, 0) // a job, and a bit of the next
	p.worker(t, "first")
	await(t, "refusal", func(context.Context) error {
		if _, refused, _ := down.seen(); refused == 0 {
			return fmt.Errorf("none refused")
		}
		return nil
	})
	p.worker(t, "second", "--slots", "12") // gets the other jobs of that registry, and was not there
	for i := range 4 {
		id := submit(up, fmt.Sprint("up", i))
		p.output(t, "jobs", "watch", id) // until it ends
		if st := p.job(t, id); st.State != jobs.Done {
			t.Errorf("a job of the other registry is %s: %v", st.State, st.Failure)
		}
	}
	down.serve(1000, 1000)
	for _, id := range waiting {
		p.output(t, "jobs", "watch", id)
		if st := p.job(t, id); st.State != jobs.Done {
			t.Errorf("a job of the registry that refused is %s: %v", st.State, st.Failure)
		}
	}
	_, refused, asked := down.seen()
	t.Logf("%d refused", refused)
	if refused > 4 { // the requests of one job that were on their way
		t.Errorf("%d requests were refused, want those of the first worker alone", refused)
	}
	for _, at := range asked {
		// What was on its way when the first was refused has a second to arrive.
		if after := at.Sub(asked[0]); after > time.Second && after < 3*time.Second {
			t.Errorf("asked %v after it wished for 3 s", after)
		}
	}
	if _, refused, _ := up.seen(); refused > 0 {
		t.Errorf("the other registry refused %d", refused)
	}
}
