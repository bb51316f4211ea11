package registry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
)

func TestRetries(t *testing.T) { eachProtocol(t, testRetries) }

func testRetries(t *testing.T, open opening) {
	const path = "/v2/app/manifests/v1"
	good := content(ocispec.MediaTypeImageManifest, `{"schemaVersion":2}`)
	for _, c := range []struct {
		name     string
		answers  []http.HandlerFunc
		requests int
		waits    []time.Duration // -1: some back-off
		kind     error           // nil: it works in the end
		asks     time.Duration
	}{
		{name: "429 with seconds", answers: []http.HandlerFunc{status(429, "Retry-After", "7"), status(429, "Retry-After", "0"), good},
			requests: 3, waits: []time.Duration{7 * time.Second, 0}},
		{name: "503 with a date gone by", answers: []http.HandlerFunc{status(503, "Retry-After", "Mon, 02 Jan 2006 15:04:05 GMT"), good},
			requests: 2, waits: []time.Duration{0}},
		{name: "502 and a broken connection", answers: []http.HandlerFunc{status(502, "Connection", "close"), hangUp, good},
			requests: 3, waits: []time.Duration{-1, -1}},
		{name: "longer than we wait here", answers: []http.HandlerFunc{status(429, "Retry-After", "3600"), good},
			requests: 1, kind: errdefs.ErrUnavailable, asks: time.Hour},
		{name: "never better", answers: []http.HandlerFunc{status(500)},
			requests: 5, waits: []time.Duration{-1, -1, -1, -1}, kind: errdefs.ErrUnavailable},
		{name: "404", answers: []http.HandlerFunc{status(404)}, requests: 1, kind: convert.ErrNotFound},
		{name: "404 with a long page", answers: []http.HandlerFunc{page(404, 70<<10)}, requests: 1, kind: convert.ErrNotFound},
		{name: "404 with half a page", answers: []http.HandlerFunc{cut(page(404, 70), 35, false)}, requests: 1, kind: convert.ErrNotFound},
		{name: "404 as containerd's kind", answers: []http.HandlerFunc{status(404)}, requests: 1, kind: errdefs.ErrNotFound},
		{name: "403", answers: []http.HandlerFunc{status(403)}, requests: 1, kind: errdefs.ErrPermissionDenied},
		{name: "401", answers: []http.HandlerFunc{status(401)}, requests: 1, kind: errdefs.ErrUnauthenticated},
		{name: "400", answers: []http.HandlerFunc{status(400)}, requests: 1, kind: errdefs.ErrInvalidArgument},
		{name: "405", answers: []http.HandlerFunc{status(405)}, requests: 1, kind: errdefs.ErrNotImplemented},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &script{on: map[string]http.HandlerFunc{"GET " + path: turns(c.answers...)}}
			var waits []time.Duration
			o := options().WithoutWaiting(func(d time.Duration) { waits = append(waits, d) })
			_, err := open(t, s, o).Root(t.Context())
			if !errors.Is(err, c.kind) {
				t.Fatalf("Root = %v, want %v", err, c.kind)
			}
			if got := len(s.requests()); got != c.requests {
				t.Errorf("%d requests, want %d", got, c.requests)
			}
			if len(waits) != len(c.waits) {
				t.Fatalf("waited %v, want %v", waits, c.waits)
			}
			for i, want := range c.waits {
				if backoff := want < 0 && waits[i] > 0 && waits[i] <= 5*time.Second; waits[i] != want && !backoff {
					t.Errorf("wait %d was %v, want %v", i, waits[i], want)
				}
			}
			if e, ok := errors.AsType[*registry.Error](err); ok && e.RetryAfter != c.asks {
				t.Errorf("RetryAfter = %v, want %v", e.RetryAfter, c.asks)
			}
		})
	}
}

// No answer in time is the registry's failing, not the end of anybody's context,
// which is what net/http's error says it is.
func TestNoAnswer(t *testing.T) {
	eachProtocol(t, func(t *testing.T, open opening) {
		s := &script{on: map[string]http.HandlerFunc{"GET /v2/app/manifests/v1": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }}}
		o := options()
		o.Transport = &http.Transport{ResponseHeaderTimeout: 200 * time.Millisecond}
		_, err := open(t, s, o).Root(t.Context())
		if !errors.Is(err, errdefs.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Root = %v, want ErrUnavailable", err)
		}
		if got := len(s.requests()); got != 5 {
			t.Errorf("%d requests, want 5", got)
		}
	})
}

// A token server's wish reaches the caller, though it stands between them.
func TestTokenServerAsksForTime(t *testing.T) {
	for name, on := range map[string]string{"ping": "/v2/", "token": "/token"} {
		t.Run(name, func(t *testing.T) {
			g := &guarded{bearer: true, h: http.NotFoundHandler()}
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == on {
					status(429, "Retry-After", "600")(w, r)
					return
				}
				g.ServeHTTP(w, r)
			}))
			t.Cleanup(srv.Close)
			src, err := registry.Open(strings.TrimPrefix(srv.URL, "http://")+"/app:v1", loggedIn())
			if err != nil {
				t.Fatal(err)
			}
			_, err = src.Root(t.Context())
			e, ok := errors.AsType[*registry.Error](err)
			if !ok || e.Status != 429 || e.RetryAfter != 10*time.Minute {
				t.Errorf("Root = %+v, want 429 and 10 minutes", e)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for v, want := range map[string]time.Duration{
		"0": 0, "120": 2 * time.Minute, "Fri, 02 Jan 2026 03:05:05 GMT": time.Minute,
		"Fri, 02 Jan 2026 03:00:00 GMT": 0, "": -1, "-1": -1, "soon": -1, "99999999999999999999": -1,
	} {
		got, ok := registry.RetryAfter(v, now)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("Retry-After %q: got %v, want %v", v, got, want)
		}
	}
}

func TestCancelledContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	_, host := serve(t, map[string]http.HandlerFunc{"GET /v2/app/manifests/v1": func(_ http.ResponseWriter, r *http.Request) {
		cancel(errors.New("the worker drains"))
		<-r.Context().Done()
	}})
	_, err := mustOpen(t, host+"/app:v1").Root(ctx)
	if !errors.Is(err, context.Canceled) || errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("Root = %v, want Canceled", err)
	}
}

// blobServer gives a blob with ranges, or as broken is told.
func blobServer(body string, ranges bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		first, last := 0, len(body)-1
		if v, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok && ranges {
			a, b, _ := strings.Cut(v, "-")
			first, _ = strconv.Atoi(a)
			if b != "" {
				last, _ = strconv.Atoi(b)
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, len(body)))
			w.Header().Set("Content-Length", fmt.Sprint(last-first+1))
			w.WriteHeader(http.StatusPartialContent)
		}
		io.WriteString(w, body[first:last+1])
	}
}

// cut sends the first n bytes of h's answer and hangs up, or stands still.
func cut(h http.HandlerFunc, n int, stall bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h(&cutter{ResponseWriter: w, left: n}, r)
		w.(http.Flusher).Flush()
		if stall {
			<-r.Context().Done()
		}
		panic(http.ErrAbortHandler)
	}
}

type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	p = p[:min(len(p), c.left)]
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

func (c *cutter) WriteString(s string) (int, error) { return c.Write([]byte(s)) }

func TestBrokenDownloads(t *testing.T) { eachProtocol(t, testBrokenDownloads) }

func testBrokenDownloads(t *testing.T, open opening) {
	body := strings.Repeat("0123456789", 100)
	desc := describe("application/octet-stream", body)
	whole, ranged := blobServer(body, false), blobServer(body, true)
	for _, c := range []struct {
		name    string
		answers []http.HandlerFunc
		ranges  []string
		kind    error
	}{
		{"broken twice", []http.HandlerFunc{cut(ranged, 300, false), cut(ranged, 200, false), ranged}, []string{"", "bytes=300-999", "bytes=500-999"}, nil},
		{"no ranges", []http.HandlerFunc{cut(whole, 300, false), whole}, []string{"", "bytes=300-999"}, nil},
		{"at the last byte", []http.HandlerFunc{cut(whole, 1000, false)}, []string{""}, nil},
		{"stands still", []http.HandlerFunc{cut(ranged, 300, true), ranged}, []string{"", "bytes=300-999"}, nil},
		{"gone meanwhile", []http.HandlerFunc{cut(ranged, 300, false), status(404)}, []string{"", "bytes=300-999"}, convert.ErrNotFound},
		{"416", []http.HandlerFunc{cut(ranged, 300, false), status(416)}, []string{"", "bytes=300-999"}, errdefs.ErrOutOfRange},
		{"another range", []http.HandlerFunc{cut(ranged, 300, false), status(206, "Content-Range", "bytes 0-999/1000")}, []string{"", "bytes=300-999"}, errdefs.ErrDataLoss},
		{"no good", []http.HandlerFunc{cut(whole, 1, false)}, slices.Concat([]string{""}, slices.Repeat([]string{"bytes=1-999"}, 4)), errdefs.ErrUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &script{on: map[string]http.HandlerFunc{"GET /v2/app/blobs/" + desc.Digest.String(): turns(c.answers...)}}
			rc, err := open(t, s, options().WithIdle(50*time.Millisecond)).Fetch(t.Context(), desc)
			if err != nil {
				t.Fatal(err)
			}
			defer rc.Close()
			got, err := io.ReadAll(rc)
			if !errors.Is(err, c.kind) {
				t.Fatalf("read: %v, want %v", err, c.kind)
			}
			if c.kind == nil && string(got) != body {
				t.Errorf("got %d bytes %.20q, want %d", len(got), got, len(body))
			}
			if diff := cmp.Diff(c.ranges, s.header("GET", "Range")); diff != "" {
				t.Errorf("ranges (-want +got):\n%s", diff)
			}
		})
	}
}

// Nothing waits for ever for the other side in the middle of a body, whichever
// way it goes.
func TestStandingStill(t *testing.T) { eachProtocol(t, testStandingStill) }

func testStandingStill(t *testing.T, open opening) {
	const most = 64 << 20 // more than sockets and windows hold
	half := func(code int, mediaType string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", mediaType)
			w.Header().Set("Content-Length", "1000")
			w.WriteHeader(code)
			io.WriteString(w, "{")
			w.(http.Flusher).Flush()
		}
	}
	desc := ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromString("x"), Size: most}
	pushing := func(size int64) func(convert.Target) error {
		desc := desc
		desc.Size = size
		return func(dst convert.Target) error {
			return dst.Push(t.Context(), desc, func() (io.ReadCloser, error) { return io.NopCloser(io.LimitReader(zeros{}, size)), nil })
		}
	}
	resolving := func(dst convert.Target) error { _, err := dst.Root(t.Context()); return err }
	listing := func(dst convert.Target) error { _, err := dst.Referrers(t.Context(), desc.Digest); return err }
	const uploads = "/v2/app/blobs/uploads/"
	for _, c := range []struct {
		name     string
		do       func(convert.Target) error
		on       string
		h        http.HandlerFunc // stands still then
		requests int              // of on's method
		kind     error
	}{
		{"manifest", resolving, "GET /v2/app/manifests/v1", half(200, ocispec.MediaTypeImageManifest), 5, errdefs.ErrUnavailable},
		{"referrers", listing, "GET /v2/app/referrers/" + desc.Digest.String(), half(200, ocispec.MediaTypeImageIndex), 1, errdefs.ErrUnavailable},
		{"refusal", resolving, "GET /v2/app/manifests/v1", half(403, "text/html"), 1, errdefs.ErrPermissionDenied},
		{"refusal to be asked again", resolving, "GET /v2/app/manifests/v1", half(503, "text/html"), 5, errdefs.ErrUnavailable},
		{"upload", pushing(most), "PUT " + uploads + "1", func(http.ResponseWriter, *http.Request) {}, 5, errdefs.ErrUnavailable},
		{"small upload", pushing(1000), "PUT " + uploads + "1", func(http.ResponseWriter, *http.Request) {}, 5, errdefs.ErrUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			over := make(chan struct{})
			still := func(w http.ResponseWriter, r *http.Request) {
				c.h(w, r)
				<-over
			}
			s := &script{on: map[string]http.HandlerFunc{c.on: still, "POST " + uploads: status(202, "Location", uploads+"1")}}
			o := options().WithIdle(50 * time.Millisecond)
			// HTTP/1 leaves what is small to the socket, and waits for an answer.
			o.Transport = &http.Transport{ResponseHeaderTimeout: time.Second}
			dst := open(t, s, o)
			defer close(over) // before the server is
			err := c.do(dst)
			if !errors.Is(err, c.kind) {
				t.Errorf("got %v, want %v", err, c.kind)
			}
			method, _, _ := strings.Cut(c.on, " ")
			if got := len(s.header(method, "Range")); got != c.requests {
				t.Errorf("%d requests, want %d", got, c.requests)
			}
		})
	}
}

// A slow uplink has time for what is read at once.
func TestUploadsAreReadInSmallPieces(t *testing.T) {
	eachProtocol(t, func(t *testing.T, open opening) {
		const size = 1 << 20
		s := &script{on: map[string]http.HandlerFunc{
			"POST /v2/app/blobs/uploads/": status(202, "Location", "/v2/app/blobs/uploads/1"),
			"PUT /v2/app/blobs/uploads/1": func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				w.WriteHeader(http.StatusCreated)
			},
		}}
		body := &largestRead{Reader: io.LimitReader(zeros{}, size)}
		desc := ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromString("x"), Size: size}
		err := open(t, s, options()).Push(t.Context(), desc, func() (io.ReadCloser, error) { return io.NopCloser(body), nil })
		if err != nil {
			t.Fatal(err)
		}
		if body.n == 0 || body.n > 64<<10 {
			t.Errorf("%d bytes were read at once, want at most 64 KiB", body.n)
		}
	})
}

type largestRead struct {
	io.Reader
	n int
}

func (r *largestRead) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.n = max(r.n, n)
	return n, err
}

// HTTP/1 closes a body before it writes the last bytes.
func TestLastBytesStandStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe() // nobody reads from it
		defer far.Close()
		rt := registry.Wire(&http.Transport{
			DialContext:           func(context.Context, string, string) (net.Conn, error) { return near, nil },
			ResponseHeaderTimeout: registry.HeaderTimeout,
		}, time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, "PUT", "http://localhost/", strings.NewReader("small"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := rt.RoundTrip(req); err == nil || ctx.Err() != nil {
			t.Errorf("RoundTrip = %v, context: %v", err, ctx.Err())
		}
	})
}

// A proxy has as long to reach the registry as net/http gives it.
func TestProxyTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := registry.Wire(&http.Transport{
			Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy"}),
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				near, far := net.Pipe()
				go io.Copy(io.Discard, far) // until near is closed
				return near, nil
			},
		}, 45*time.Second)
		req, err := http.NewRequestWithContext(t.Context(), "PUT", "https://registry/", strings.NewReader("small"))
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := rt.RoundTrip(req); err == nil || time.Since(began) != time.Minute {
			t.Errorf("RoundTrip = %v after %v, want an error after net/http's minute", err, time.Since(began))
		}
	})
}

// An answer may come while the body is read: net/http closes it then, and nothing
// waits any more for the other side to take it.
func TestBodyClosedWhileRead(t *testing.T) {
	for name, last := range map[string]error{"in the middle": nil, "at its end": io.EOF} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				body := slowBody{make(chan struct{}), make(chan error)}
				req, err := http.NewRequestWithContext(t.Context(), "PUT", "http://localhost/", body)
				if err != nil {
					t.Fatal(err)
				}
				rt := registry.Wire(roundTripper(func(req *http.Request) (*http.Response, error) {
					read := make(chan struct{})
					go func() { defer close(read); req.Body.Read(make([]byte, 1)) }()
					<-body.reading
					req.Body.Close()
					body.goOn <- last
					<-read
					time.Sleep(time.Hour)
					return &http.Response{Body: http.NoBody}, req.Context().Err()
				}), time.Minute)
				if _, err := rt.RoundTrip(req); err != nil {
					t.Errorf("RoundTrip = %v", err)
				}
			})
		})
	}
}

// slowBody says when it is read and is told when to be done.
type slowBody struct {
	reading chan struct{}
	goOn    chan error
}

func (b slowBody) Read([]byte) (int, error) { close(b.reading); return 0, <-b.goOn }
func (slowBody) Close() error               { return nil }

// A side that sends more than it announced, or for ever, is cut off.
func TestBounds(t *testing.T) {
	endless := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	}
	blob, manifest := describe("application/octet-stream", "four"), describe(ocispec.MediaTypeImageManifest, "five")
	_, host := serve(t, map[string]http.HandlerFunc{
		"GET /v2/app/blobs/" + blob.Digest.String():         endless,
		"GET /v2/app/manifests/v1":                          endless,
		"GET /v2/app/manifests/" + manifest.Digest.String(): endless,
		"GET /v2/app/referrers/" + manifest.Digest.String(): func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			endless(indexHeader{w}, r)
		},
	})
	src := mustOpen(t, host+"/app:v1")
	if got := fetch(t, src, blob); len(got) != 5 {
		t.Errorf("got %d bytes of a blob of 4, want 5", len(got))
	}
	for name, f := range map[string]func() error{
		"Root":      func() error { _, err := src.Root(t.Context()); return err },
		"Fetch":     func() error { _, err := src.Fetch(t.Context(), manifest); return err },
		"Referrers": func() error { _, err := src.Referrers(t.Context(), manifest.Digest); return err },
	} {
		if err := f(); !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), "larger") {
			t.Errorf("%s of an endless manifest: %v", name, err)
		}
	}
}

// A layer's bytes are what its digest is of, also where a server would like to
// compress them on the way.
func TestNothingIsDecompressed(t *testing.T) {
	desc := describe("application/octet-stream", "a tar")
	_, host := serve(t, map[string]http.HandlerFunc{"GET /v2/app/blobs/" + desc.Digest.String(): func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			t.Errorf("gzip was asked for: %q", r.Header.Get("Accept-Encoding"))
		}
		io.WriteString(w, "a tar")
	}})
	if got := fetch(t, mustOpen(t, host+"/app:v1"), desc); got != "a tar" {
		t.Errorf("got %q", got)
	}
}

// indexHeader keeps the media type that was set first.
type indexHeader struct{ http.ResponseWriter }

func (h indexHeader) Header() http.Header { return http.Header{} }
