//go:build linux

package e2e_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
)

// proxy stands before a registry. Each of its answers passes through seen.
func proxy(registry string, seen func(*http.Response)) http.Handler {
	to := &url.URL{Scheme: "http", Host: registry}
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.SetXForwarded()
			r.Out.Host = r.In.Host // so that the places it names are here
		},
		ModifyResponse: func(r *http.Response) error { seen(r); return nil },
		FlushInterval:  -1,
	}
}

func serveHTTP(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv
}

func hostOf(srv *httptest.Server) string { return strings.TrimPrefix(srv.URL, "http://") }

// bringsBlob reports whether an answer brings a blob of more than so many bytes.
func bringsBlob(r *http.Response, bytes int64) bool {
	return r.Request.Method == http.MethodGet && strings.Contains(r.Request.URL.Path, "/blobs/") && r.ContentLength > bytes
}

// halting is a body that asks, once so many bytes were read, before each further read
// how many may be read.
type halting struct {
	io.ReadCloser
	left int64
	next func() (int64, error)
}

func (h *halting) Read(p []byte) (n int, err error) {
	for h.left == 0 {
		if h.left, err = h.next(); err != nil {
			return 0, err
		}
	}
	n, err = h.ReadCloser.Read(p[:min(int64(len(p)), h.left)])
	h.left -= int64(n)
	return n, err
}
