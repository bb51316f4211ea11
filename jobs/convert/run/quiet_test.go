package run_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/lithify/lithify/jobs"
	convertjob "github.com/lithify/lithify/jobs/convert"
	"github.com/lithify/lithify/jobs/convert/run"
)

// reporter is a job that hears of silences.
type reporter struct {
	mu   sync.Mutex
	told []string
	open int
}

func (*reporter) Alive(int64)          {}
func (*reporter) Event(string, ...any) {}
func (*reporter) Log([]byte)           {}

func (r *reporter) Quiet(_ time.Duration, why string) func() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, why)
	r.open++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.open--
	}
}

// A registry that asks for patience costs the job nothing: the worker is told.
func TestRegistryIsWaitedForAloud(t *testing.T) {
	asked := false
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v2/":
		case !asked:
			asked = true
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(srv.Close)
	host := strings.TrimPrefix(srv.URL, "http://")
	r := &reporter{}
	h := run.Handler{Keychain: authn.NewMultiKeychain()}
	_, err := h.Run(jobs.WithReporter(t.Context(), r), convertjob.Args{Source: host + "/app:v1", Output: convertjob.Output{Target: host + "/app:v2"}})
	if !errors.Is(err, errdefs.ErrNotFound) {
		t.Fatal(err)
	}
	if told := strings.Join(r.told, "\n"); !strings.Contains(told, "waiting to ask again") || !strings.Contains(told, "waiting for an answer of "+host) {
		t.Errorf("told %q, want the waits for %s", r.told, host)
	}
	if r.open != 0 {
		t.Errorf("%d of %q have not ended", r.open, r.told)
	}
}
