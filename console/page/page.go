// Package page is the console's web page: what a pool does now, its jobs, its workers and
// its rollouts, for people.
//
// Each page is whole HTML that can be read without a script; of each, one region is sent
// again by server-sent events when it has changed, and htmx puts it in place of the old one.
// A browser may load scripts and styles of this server and nothing else.
package page

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/console/index"
	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// Viewer is somebody who looks at the page.
type Viewer struct {
	Name string
	// Operator is of those who may do whatever the pool's own commands do. Others see, and
	// cancel, jobs of some tenants.
	Operator bool
	Tenants  []string
}

// Auth says who somebody is. Errors are of the kinds of errdefs, as those of the API.
type Auth interface {
	// Login takes what somebody has put into the form, and gives what their browser shows
	// from then on, for so long.
	Login(ctx context.Context, secret string) (session string, lasts time.Duration, err error)
	// Viewer is called for each request, with a session.
	Viewer(ctx context.Context, session string) (Viewer, error)
}

// Page is the service; make it with New.
type Page struct {
	client *queue.Client
	index  *index.Index
	auth   Auth
	log    *slog.Logger
	ending <-chan struct{}
	open   chan struct{} // holds one for each stream
}

// New makes the page of a pool. Its streams end when ending is closed.
func New(client *queue.Client, x *index.Index, auth Auth, ending <-chan struct{}, log *slog.Logger) *Page {
	return &Page{client: client, index: x, auth: auth, log: log, ending: ending, open: make(chan struct{}, maxStreams)}
}

// Handler serves the page, all of it but for /healthz and the API.
func (p *Page) Handler() http.Handler {
	mux := http.NewServeMux()
	for path, v := range map[string]view{
		"/{$}":              {"overview", "Overview", "overview", p.overview, 2 * time.Second},
		"/jobs":             {"jobs", "Jobs", "jobs", p.jobs, ageEvery},
		"/jobs/{id}":        {"job", "Job", "jobs", p.job, time.Second},
		"/jobs/{id}/cancel": {"confirm", "Cancel", "jobs", p.confirm(cancel), 0},
		"/jobs/{id}/retry":  {"confirm", "Retry", "jobs", p.confirm(retry), 0},
		"/jobs/{id}/pause":  {"confirm", "Pause", "jobs", p.confirm(pause), 0},
		"/jobs/{id}/resume": {"confirm", "Resume", "jobs", p.confirm(resume), 0},
		"/rollouts":         {"rollouts", "Rollouts", "rollouts", p.rollouts, ageEvery},
		"/rollouts/{id}":    {"rollout", "Rollout", "rollouts", p.rollout, ageEvery},
	} {
		mux.HandleFunc("GET "+path, p.seen(p.show(v)))
	}
	mux.HandleFunc("GET /jobs/{id}/log", p.seen(p.followLog))
	for _, a := range []action{cancel, retry, pause, resume} {
		mux.HandleFunc("POST /jobs/{id}/"+a.path, p.seen(p.act(a)))
	}
	mux.HandleFunc("GET /login", p.loginForm)
	mux.HandleFunc("POST /login", p.login)
	mux.HandleFunc("POST /logout", p.logout)
	mux.Handle("GET /static/", staticFiles())
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		p.fail(w, r, &jobs.Failure{Kind: jobs.KindNotFound, Message: "There is no page at " + r.URL.Path + "."})
	})
	return secured(http.NewCrossOriginProtection().Handler(mux))
}

// policy lets a browser load what this server has in files of their own, and nothing else.
// htmx is never given an expression, so nothing is evaluated.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// secured sets what every answer has.
func secured(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range map[string]string{
			"Content-Security-Policy":      policy,
			"X-Content-Type-Options":       "nosniff",
			"X-Frame-Options":              "DENY",
			"Referrer-Policy":              "same-origin",
			"Cross-Origin-Opener-Policy":   "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin",
			"Cache-Control":                "no-store",
		} {
			w.Header().Set(name, value)
		}
		h.ServeHTTP(w, r)
	})
}

// seenBy answers somebody who is logged in.
type seenBy func(w http.ResponseWriter, r *http.Request, v Viewer) error

// seen has f answer whoever has a session, and sends others to log in.
func (p *Page) seen(f seenBy) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := p.viewer(r)
		switch {
		case errdefs.IsUnauthorized(err) && r.Method == http.MethodGet && !streams(r):
			http.Redirect(w, r, loginPath(r.URL.RequestURI()), http.StatusSeeOther)
			return
		case err == nil:
			err = f(w, r, v)
		}
		if err != nil {
			p.fail(w, r, err)
		}
	}
}

// sees reports whether jobs of a tenant are shown to v.
func (v Viewer) sees(tenant string) bool {
	for _, t := range v.Tenants {
		if t == tenant {
			return true
		}
	}
	return v.Operator
}

// statusOf reads a job that is shown to v; one that is not, is not there.
func (p *Page) statusOf(ctx context.Context, v Viewer, id jobs.ID) (queue.Status, error) {
	if _, err := jobs.ParseID(string(id)); err != nil {
		return queue.Status{}, errors.Join(err, errdefs.ErrNotFound)
	}
	st, err := p.client.Get(ctx, id)
	if err == nil && !v.sees(st.Job.Tenant) {
		return queue.Status{}, &jobs.Failure{Kind: jobs.KindNotFound, Message: "no job " + string(id)}
	}
	return st, err
}
