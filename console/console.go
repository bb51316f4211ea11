// Package console serves the pool's HTTP API, its triggers and its web page.
//
//	POST /hooks/NAME           a push, from a Git host: the jobs of the rules that match
//	POST /v1/jobs              a [Request]; answered by a [queue.Status]
//	GET  /v1/jobs/ID           a queue.Status
//	POST /v1/jobs/ID/cancel    ends the job
//	GET  /v1/jobs/ID/events    its history, as server-sent events, until it has ended
//	GET  /v1/jobs/ID/log       what it prints, in the same way
//	GET  /healthz              200 while the pool can be reached
//
// Posts of Git hosts are signed by a secret; all under /v1 needs a token of an OpenID
// provider, and what its claims are granted. A [Config] says which. An error is
// {"error": "...", "kind": "..."} with a kind of jobs.ErrorKind. Errors of the pool that
// pass are 503, and whoever asked may ask again: hosts do so by themselves.
//
// All other paths are the web page's, see package page. It is for whoever logs in with
// an operator's key or with such a token.
package console

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	"github.com/lithify/lithify/console/index"
	"github.com/lithify/lithify/console/page"
	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// Server is the service; make it with New.
type Server struct {
	client  *queue.Client
	hooks   map[string]Hook
	issuers issuers
	log     *slog.Logger
	index   *index.Index
	page    *page.Page
	ending  chan struct{} // closed when streams are to end
	streams chan struct{} // holds one for each that is open
}

// New makes a server of a pool's console. log may be nil.
func New(client *queue.Client, cfg Config, log *slog.Logger) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{client: client, hooks: map[string]Hook{}, issuers: newIssuers(cfg.Issuers), log: log, ending: make(chan struct{}), streams: make(chan struct{}, maxStreams)}
	for _, h := range cfg.Hooks {
		s.hooks[h.Name] = h
	}
	s.index = index.New(client, log)
	s.page = page.New(client, s.index, sessions{cfg.operatorKeys, s.issuers}, s.ending, log)
	return s
}

const (
	// headerTimeout and bodyTimeout bound slow senders; answers may stream for hours.
	headerTimeout = 10 * time.Second
	bodyTimeout   = 30 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 64 << 10 // bytes
	// leaveWithin bounds what is left of requests when the server stops.
	leaveWithin = 5 * time.Second
)

// Run serves on l until ctx is done, by TLS if there are a certificate and its key
// (PEM files). It closes l.
func (s *Server) Run(ctx context.Context, l net.Listener, cert, key string) error {
	srv := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout + bodyTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if cert != "" {
			return srv.ServeTLS(l, cert, key)
		}
		return srv.Serve(l)
	})
	g.Go(func() error { return s.index.Run(gctx) })
	g.Go(func() error {
		<-gctx.Done()
		close(s.ending)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWithin)
		defer cancel()
		return errors.Join(srv.Shutdown(ctx), srv.Close())
	})
	if err := g.Wait(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("console: %w", err)
	}
	return nil
}

// Handler serves all paths. The page lists only jobs that Run has heard of.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /hooks/{name}", s.hook)
	mux.HandleFunc("POST /v1/jobs", s.authorized(s.submit))
	mux.HandleFunc("GET /v1/jobs/{id}", s.authorized(s.ofJob(s.get)))
	mux.HandleFunc("POST /v1/jobs/{id}/cancel", s.authorized(s.ofJob(s.cancel)))
	mux.HandleFunc("GET /v1/jobs/{id}/events", s.authorized(s.ofJob(s.events)))
	mux.HandleFunc("GET /v1/jobs/{id}/log", s.authorized(s.ofJob(s.logs)))
	mux.HandleFunc("GET /healthz", s.health)
	mux.Handle("/", s.page.Handler())
	return http.MaxBytesHandler(mux, maxBody)
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	if !s.client.Connected() {
		http.Error(w, "the pool is not reached", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// endpoint answers somebody who may ask.
type endpoint func(w http.ResponseWriter, r *http.Request, id identity) error

// authorized has f answer those who have a good token, and tells its errors.
func (s *Server) authorized(f endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id, err := s.issuers.identify(r)
		if err == nil {
			err = f(w, r, id)
		}
		if err != nil {
			s.fail(w, r, err)
		}
	}
}

// ofJob has f answer for a job that is shown to whoever asks; one that is not, is not there.
func (s *Server) ofJob(f func(http.ResponseWriter, *http.Request, queue.Status) error) endpoint {
	return func(w http.ResponseWriter, r *http.Request, id identity) error {
		st, err := s.client.Get(r.Context(), jobs.ID(r.PathValue("id")))
		if err != nil {
			return err
		}
		if !id.sees(st.Job.Tenant) {
			return fmt.Errorf("job %s: %w", st.ID, errdefs.ErrNotFound)
		}
		return f(w, r, st)
	}
}
