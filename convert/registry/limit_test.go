package registry_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert/registry"
)

// ration is a limiter that does as it is told and remembers what it is asked.
type ration struct {
	mu      sync.Mutex
	waits   []time.Duration // to give, then 0
	asked   []string        // hosts
	refused []time.Duration
}

func (r *ration) Turn(_ context.Context, host string) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, host)
	if len(r.waits) == 0 {
		return 0
	}
	wait := r.waits[0]
	r.waits = r.waits[1:]
	return wait
}

func (r *ration) Refused(_ string, asked time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused = append(r.refused, asked)
}

// pings are those of a server on a loopback address: by HTTPS, then by HTTP.
const pings = 2

// Each attempt takes a turn, and each refusal is told, however the request ends.
func TestEveryAttemptTakesATurn(t *testing.T) {
	const path = "/v2/app/manifests/v1"
	good := content(ocispec.MediaTypeImageManifest, `{"schemaVersion":2}`)
	for _, c := range []struct {
		name    string
		answers []http.HandlerFunc
		turns   int // beside the pings
		refused []time.Duration
	}{
		{"at once", []http.HandlerFunc{good}, 1, nil},
		{"429", []http.HandlerFunc{status(429, "Retry-After", "7"), status(429), good}, 3, []time.Duration{7 * time.Second, 0}},
		{"429 with a reset", []http.HandlerFunc{status(429, "RateLimit-Reset", "9"), good}, 2, []time.Duration{9 * time.Second}},
		{"too long to wait for", []http.HandlerFunc{status(429, "Retry-After", "3600")}, 1, []time.Duration{time.Hour}},
		{"503 that asks", []http.HandlerFunc{status(503, "Retry-After", "2"), good}, 2, []time.Duration{2 * time.Second}},
		{"503 of one that is down", []http.HandlerFunc{status(503), good}, 2, nil},
		{"500", []http.HandlerFunc{status(500, "Retry-After", "2"), good}, 2, nil},
		{"the last one", []http.HandlerFunc{with(good, "RateLimit-Remaining", "0", "RateLimit-Reset", "30")}, 1, []time.Duration{30 * time.Second}},
		{"Docker Hub's last one", []http.HandlerFunc{with(good, "RateLimit-Remaining", "0;w=21600")}, 1, nil},
		{"many left", []http.HandlerFunc{with(good, "RateLimit-Remaining", "10", "RateLimit-Reset", "30")}, 1, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, host := serve(t, map[string]http.HandlerFunc{"GET " + path: turns(c.answers...)})
			r := &ration{}
			o := options().WithoutWaiting(func(time.Duration) {})
			o.Limiter = r
			src, err := registry.Open(host+"/app:v1", o)
			if err != nil {
				t.Fatal(err)
			}
			src.Root(t.Context())
			if got := len(r.asked) - pings; got != c.turns {
				t.Errorf("%d turns, want %d", got, c.turns)
			}
			for _, got := range r.asked {
				if got != host {
					t.Errorf("a turn at %s, want %s", got, host)
				}
			}
			if diff := cmp.Diff(c.refused, r.refused); diff != "" {
				t.Errorf("told of refusals (-want +got):\n%s", diff)
			}
		})
	}
}

// with is h with more headers.
func with(h http.HandlerFunc, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		h(w, r)
	}
}

func TestTurnsAreWaitedFor(t *testing.T) {
	s, host := serve(t, nil)
	told := &silences{}
	o := options()
	o.Quiet = told.quiet
	o.Limiter = &ration{waits: []time.Duration{time.Second, 2 * time.Second}}
	var waits []time.Duration
	o = o.WithoutWaiting(func(d time.Duration) {
		waits = append(waits, d)
		if told.now() == 0 {
			t.Error("the wait was not declared")
		}
		if len(s.requests()) > 0 {
			t.Error("sent before its turn")
		}
	})
	src, err := registry.Open(host+"/app:v1", o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := src.Root(t.Context()); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("Root = %v, want what the registry says", err)
	}
	if diff := cmp.Diff([]time.Duration{time.Second, 2 * time.Second}, waits); diff != "" {
		t.Errorf("waits (-want +got):\n%s", diff)
	}
}

// A turn that comes too late is the queue's to wait for: nothing is sent, nor tried
// again, and the error says when, also if it was for a ping or for a piece of a push.
func TestTurnTooLate(t *testing.T) {
	soon, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, c := range []struct {
		name  string
		ctx   context.Context
		waits []time.Duration
		asks  time.Duration
		slept int
	}{
		{"at the ping", t.Context(), []time.Duration{time.Hour, time.Hour}, time.Hour, 0},
		{"after the ping", t.Context(), []time.Duration{0, 0, time.Hour}, time.Hour, 0},
		{"bit by bit", t.Context(), []time.Duration{0, 0, time.Minute, 45 * time.Second, 30 * time.Second}, 30 * time.Second, 2},
		{"after the deadline", soon, []time.Duration{0, 0, 90 * time.Second}, 90 * time.Second, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, do := range map[string]func(registry.Options, string) error{
				"resolve": func(o registry.Options, ref string) error {
					src, err := registry.Open(ref, o)
					if err != nil {
						return err
					}
					_, err = src.Root(c.ctx)
					return err
				},
				"push": func(o registry.Options, ref string) error {
					dst, err := registry.Create(ref, o)
					if err != nil {
						return err
					}
					desc := describe("application/octet-stream", "layer")
					return dst.Push(c.ctx, desc, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("layer")), nil })
				},
			} {
				s, host := serve(t, nil)
				slept := 0
				o := options().WithoutWaiting(func(time.Duration) { slept++ })
				o.Limiter = &ration{waits: c.waits}
				err := do(o, host+"/app:v1")
				e, ok := errors.AsType[*registry.Error](err)
				if !ok || e.RetryAfter != c.asks || !errors.Is(err, errdefs.ErrUnavailable) {
					t.Errorf("%s: got %v, want ErrUnavailable that asks for %v", name, err, c.asks)
				}
				if got := len(s.requests()); got != 0 {
					t.Errorf("%s: %d requests were sent", name, got)
				}
				if slept != c.slept {
					t.Errorf("%s: slept %d times, want %d", name, slept, c.slept)
				}
			}
		})
	}
}

func TestCancelledWhileWaitingForATurn(t *testing.T) {
	_, host := serve(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	o := options().WithoutWaiting(func(time.Duration) { cancel() })
	o.Limiter = &ration{waits: []time.Duration{0, time.Second}}
	src, err := registry.Open(host+"/app:v1", o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := src.Root(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("Root = %v, want Canceled", err)
	}
}
