package console_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/lithify/lithify/console"
	"github.com/lithify/lithify/console/consoletest"
)

// askWith asks for a job with a token, and gives the answer's status.
func askWith(t *testing.T, console, token string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, console+"/v1/jobs/convert-x", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestEndlessIssuer: of an issuer that does not stop to talk the memory of a console is not full.
func TestEndlessIssuer(t *testing.T) {
	var said atomic.Int64
	over := make(chan struct{})
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(over)
		fmt.Fprintf(w, `{"issuer":"http://%s","more":"`, r.Host)
		for some := bytes.Repeat([]byte("x"), 1<<20); said.Load() < 256<<20; said.Add(1 << 20) {
			if _, err := w.Write(some); err != nil {
				return
			}
		}
	}))
	t.Cleanup(issuer.Close)
	cfg, err := load(t, config(issuer.URL))
	if err != nil {
		t.Fatal(err)
	}
	srv := serve(t, nil, cfg)
	code := askWith(t, srv.URL, consoletest.New(t).Token(map[string]any{"iss": issuer.URL}))
	<-over
	if code != http.StatusServiceUnavailable || said.Load() > 64<<20 {
		t.Errorf("status %d after %d MiB, want %d after little", code, said.Load()>>20, http.StatusServiceUnavailable)
	}
}

// TestSlowIssuer: who does not wait any longer for an issuer is not kept by those who do.
func TestSlowIssuer(t *testing.T) {
	asked, answer := make(chan struct{}, 2), make(chan struct{})
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		select {
		case <-answer:
		case <-r.Context().Done(): // nobody waits for it
		}
		http.Error(w, "not today", http.StatusInternalServerError)
	}))
	t.Cleanup(issuer.Close)
	cfg, err := load(t, config(issuer.URL))
	if err != nil {
		t.Fatal(err)
	}
	handler := console.New(nil, cfg, slog.New(slog.DiscardHandler)).Handler()
	token := consoletest.New(t).Token(map[string]any{"iss": issuer.URL})
	ask := func(ctx context.Context) (ended chan struct{}) {
		ended = make(chan struct{})
		req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/jobs/convert-x", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		go func() {
			defer close(ended)
			handler.ServeHTTP(httptest.NewRecorder(), req)
		}()
		return ended
	}
	patient := ask(t.Context())
	<-asked
	ctx, cancel := context.WithCancel(t.Context())
	hasty := ask(ctx)
	cancel()
	select {
	case <-hasty:
	case <-patient:
		t.Error("the one who left was kept until the issuer was given up")
	}
	close(answer)
	<-patient
	<-hasty
}
