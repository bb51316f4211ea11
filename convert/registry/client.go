package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

const maxRedirects = 5

// client sends requests to one repository. Authentication is ggcr's: it asks the
// registry how, gets tokens, and adds credentials only to requests for the
// registry's own host. remote's Pusher and Puller are not used: they read
// manifests of 100 MiB, ignore Retry-After, and neither tell whether a mount
// succeeded nor send conditions with a tag.
type client struct {
	repo     name.Repository
	actions  string // pull, push,pull, or pull,delete
	keychain authn.Keychain
	base     http.RoundTripper
	secrets  secrets

	connecting chan struct{} // held by who does the handshake; a mutex that heeds ctx
	conns      map[string]*http.Client
}

func newClient(repo name.Repository, actions string, o Options) *client {
	var rt http.RoundTripper = &plainGuard{inner: o.Transport, allowed: o.Insecure}
	rt = &tracer{inner: &wire{rt, o.idle, o.Quiet}}
	if o.Limiter != nil {
		rt = &limited{inner: rt, limiter: o.Limiter, sleep: o.sleep, metrics: newLimitMetrics()}
	}
	rt = &retrier{inner: rt, sleep: o.sleep}
	return &client{
		repo:       repo,
		actions:    actions,
		keychain:   o.Keychain,
		base:       transport.NewUserAgent(rt, "lithify"),
		connecting: make(chan struct{}, 1),
		conns:      map[string]*http.Client{},
	}
}

// connect gives the HTTP client whose token also lets it read the repository
// from, if that is not empty. A handshake that did not work is done again by
// the next caller.
func (c *client) connect(ctx context.Context, from string) (*http.Client, error) {
	select {
	case c.connecting <- struct{}{}:
		defer func() { <-c.connecting }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if hc, ok := c.conns[from]; ok {
		return hc, nil
	}
	auth, err := authn.Resolve(ctx, c.keychain, c.repo)
	if err != nil {
		return nil, err
	}
	if cfg, err := authn.Authorization(ctx, auth); err == nil {
		c.secrets.add(cfg)
	}
	scopes := []string{c.repo.Scope(c.actions)}
	if from != "" {
		scopes = append(scopes, "repository:"+from+":pull")
	}
	rt, err := transport.NewWithContext(ctx, c.repo.Registry, auth, c.base, scopes)
	if err != nil {
		return nil, err
	}
	hc := &http.Client{Transport: rt, CheckRedirect: checkRedirect}
	c.conns[from] = hc
	return hc, nil
}

// request is one HTTP request. body is opened for each sending.
type request struct {
	method string
	url    *url.URL
	header http.Header
	size   int64 // of the body, or unknownSize
	body   func() (io.ReadCloser, error)
	from   string // the repository mounted from
}

// unknownSize is of a body that ends where it ends.
const unknownSize = -1

// do sends req and gives the answer if its status is one of want, else an Error.
func (c *client) do(ctx context.Context, r request, want ...int) (*http.Response, error) {
	ctx, wish := withWish(ctx)
	resp, err := c.send(ctx, r)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, c.failure(ctx.Err()) // net/http gives the cause, whose kind nobody knows
	case err != nil:
		err = c.failure(err)
	case slices.Contains(want, resp.StatusCode):
		return resp, nil
	default:
		err = c.refusal(resp)
		resp.Body.Close()
	}
	if e, ok := errors.AsType[*Error](err); ok && transientStatus(e.Status) {
		e.RetryAfter = time.Duration(wish.Load())
	}
	return nil, err
}

func (c *client) send(ctx context.Context, r request) (*http.Response, error) {
	hc, err := c.connect(ctx, r.from)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, r.method, r.url.String(), nil)
	if err != nil {
		return nil, err
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	// Otherwise net/http asks for gzip and undoes it, and the digest is wrong.
	req.Header.Set("Accept-Encoding", "identity")
	if r.body != nil && r.size != 0 {
		req.Body = &lazyBody{open: r.body}
		req.GetBody = func() (io.ReadCloser, error) { return &lazyBody{open: r.body}, nil }
		req.ContentLength = r.size
	}
	return hc.Do(req)
}

// url is the address of something in the repository; id is a tag, a digest or
// empty.
func (c *client) url(kind, id string) *url.URL {
	return &url.URL{Scheme: c.repo.Scheme(), Host: c.repo.RegistryStr(), Path: "/v2/" + c.repo.RepositoryStr() + "/" + kind + "/" + id}
}

// checkRedirect runs before a redirect is followed. Credentials need no care
// here: ggcr adds them by host, and net/http drops what it copied for another.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return invalid("more than %d redirects", maxRedirects)
	}
	if req.Response.Request.URL.Scheme == "https" && req.URL.Scheme != "https" {
		return &Error{text: "redirect from https to " + req.URL.Scheme + "://" + req.URL.Host, kinds: []error{errdefs.ErrPermissionDenied}}
	}
	return nil
}

// plainGuard refuses plain HTTP that nobody allowed (ggcr would try it with any
// private address) and, from a redirect or a realm, what is not HTTP at all.
type plainGuard struct {
	inner   http.RoundTripper
	allowed bool
}

func (g *plainGuard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme == "https" || req.URL.Scheme == "http" && (g.allowed || loopback(req.URL.Hostname())) {
		return g.inner.RoundTrip(req)
	}
	if req.Body != nil {
		req.Body.Close()
	}
	if req.URL.Scheme != "http" {
		return nil, invalid("%s is no scheme of a registry", req.URL.Scheme)
	}
	return nil, &Error{text: "plain HTTP to " + req.URL.Host + " is not allowed", kinds: []error{errdefs.ErrFailedPrecondition}}
}

func loopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// lazyBody opens the content with the first read, so that a body that is only
// replaced by a fresh one costs nothing.
type lazyBody struct {
	open func() (io.ReadCloser, error)
	rc   io.ReadCloser
	mu   sync.Mutex // net/http may close a body while it reads it
	shut bool
}

func (b *lazyBody) Read(p []byte) (int, error) {
	rc, err := b.opened()
	if err != nil {
		return 0, err
	}
	return rc.Read(p)
}

func (b *lazyBody) opened() (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shut {
		return nil, net.ErrClosed
	}
	if b.rc == nil {
		rc, err := b.open()
		if err != nil {
			return nil, err
		}
		b.rc = rc
	}
	return b.rc, nil
}

func (b *lazyBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shut || b.rc == nil {
		b.shut = true
		return nil
	}
	b.shut = true
	return b.rc.Close()
}

// secrets are the keychain's answers, kept to be blotted out of error texts.
type secrets struct {
	mu    sync.Mutex
	known []string
}

func (s *secrets) add(cfg *authn.AuthConfig) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pair := base64.StdEncoding.EncodeToString([]byte(cfg.Username + ":" + cfg.Password))
	for _, v := range []string{cfg.Password, cfg.Auth, cfg.IdentityToken, cfg.RegistryToken, pair} {
		if v != "" {
			s.known = append(s.known, v, url.QueryEscape(v))
		}
	}
}

func (s *secrets) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.known...)
}
