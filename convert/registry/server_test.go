package registry_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
)

// canary is a password that must appear in no error, log or span.
const canary = "c4n4ry+/s3cret=="

// script answers requests and remembers them. Pings and unknown requests are
// answered as an open, empty registry would.
type script struct {
	mu   sync.Mutex
	seen []*http.Request
	on   map[string]http.HandlerFunc // by "METHOD path"
}

func serve(t *testing.T, on map[string]http.HandlerFunc) (*script, string) {
	t.Helper()
	s := &script{on: on}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	return s, strings.TrimPrefix(srv.URL, "http://")
}

// protocols are what registries speak, and how to be reached by each: a server
// for h, the host to name it by, and a transport that gets there.
var protocols = map[string]func(t *testing.T, h http.Handler) (host string, rt *http.Transport){
	"HTTP/1.1": func(t *testing.T, h http.Handler) (string, *http.Transport) {
		srv := httptest.NewServer(h)
		t.Cleanup(srv.Close)
		return strings.TrimPrefix(srv.URL, "http://"), nil
	},
	"HTTP/2.0": func(t *testing.T, h http.Handler) (string, *http.Transport) {
		srv := httptest.NewUnstartedServer(h)
		srv.EnableHTTP2 = true
		srv.Config.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 100} // so that also what is small waits to be taken
		srv.StartTLS()
		t.Cleanup(srv.Close)
		return "example.com", srv.Client().Transport.(*http.Transport) // its certificate's name
	},
}

// opening makes a server of s and gives app:v1 on it.
type opening func(t *testing.T, s *script, o registry.Options) convert.Target

// eachProtocol runs a test with all of them.
func eachProtocol(t *testing.T, test func(*testing.T, opening)) {
	for proto, start := range protocols {
		t.Run(proto, func(t *testing.T) {
			test(t, func(t *testing.T, s *script, o registry.Options) convert.Target {
				t.Helper()
				host, rt := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Proto != proto {
						t.Errorf("%s %s by %s, want %s", r.Method, r.URL, r.Proto, proto)
					}
					s.ServeHTTP(w, r)
				}))
				if rt != nil {
					if own, ok := o.Transport.(*http.Transport); ok {
						rt.ResponseHeaderTimeout = own.ResponseHeaderTimeout
					}
					o.Transport = rt
				}
				dst, err := registry.Create(host+"/app:v1", o)
				if err != nil {
					t.Fatal(err)
				}
				return dst
			})
		})
	}
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v2/" {
		return
	}
	s.mu.Lock()
	s.seen = append(s.seen, r)
	h := s.on[r.Method+" "+r.URL.Path]
	s.mu.Unlock()
	if h == nil {
		http.Error(w, `{"errors":[{"code":"NAME_UNKNOWN","message":"unknown"}]}`, http.StatusNotFound)
		return
	}
	h(w, r)
}

// requests lists what was asked, in order: "GET /v2/...".
func (s *script) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, r := range s.seen {
		out = append(out, r.Method+" "+r.URL.RequestURI())
	}
	return out
}

// header lists one header of all requests of a method.
func (s *script) header(method, name string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, r := range s.seen {
		if r.Method == method {
			out = append(out, r.Header.Get(name))
		}
	}
	return out
}

// turns answers one after the other and stays with the last.
func turns(hs ...http.HandlerFunc) http.HandlerFunc {
	var mu sync.Mutex
	n := 0
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		h := hs[min(n, len(hs)-1)]
		n++
		mu.Unlock()
		h(w, r)
	}
}

func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

// page is a refusal that says something of that many bytes.
func page(code, size int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		w.Write(make([]byte, size))
	}
}

func content(mediaType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		w.Write([]byte(body))
	}
}

// hangUp closes the connection in the middle of whatever was being said.
func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// keychain gives one credential for every registry.
type keychain authn.AuthConfig

func (k keychain) Resolve(authn.Resource) (authn.Authenticator, error) {
	return authn.FromConfig(authn.AuthConfig(k)), nil
}

func loggedIn() registry.Options {
	o := options()
	o.Keychain = keychain{Username: "user", Password: canary}
	return o
}

// guarded asks for credentials in front of h: by bearer tokens of a token server
// on the same host, or by basic authentication.
type guarded struct {
	h      http.Handler
	bearer bool

	mu     sync.Mutex
	scopes []string // asked for, one request's joined by spaces
	spent  bool     // the next request finds its token expired
	issued int
}

func (g *guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		g.token(w, r)
		return
	}
	g.mu.Lock()
	user, password, basic := r.BasicAuth()
	in := basic && user == "user" && password == canary
	if g.bearer {
		in = r.Header.Get("Authorization") == fmt.Sprintf("Bearer c4n4ry-token-%d", g.issued) && g.issued > 0 && !g.spent
	}
	g.mu.Unlock()
	if in {
		g.h.ServeHTTP(w, r)
		return
	}
	challenge := `Basic realm="registry"`
	if g.bearer {
		challenge = `Bearer realm="http://` + r.Host + `/token",service="registry"`
	}
	w.Header().Set("WWW-Authenticate", challenge)
	w.WriteHeader(http.StatusUnauthorized)
	// A careless registry that says back what it was told.
	fmt.Fprintf(w, `{"errors":[{"code":"UNAUTHORIZED","message":"no access with %s, password %s"}]}`, r.Header.Get("Authorization"), password)
}

func (g *guarded) token(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	if user != "user" || password != canary {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, `{"errors":[{"code":"UNAUTHORIZED","message":"bad password %s"}],"refresh_token":"%s"}`, password, canary)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.scopes = append(g.scopes, strings.Join(r.URL.Query()["scope"], " "))
	g.issued++
	g.spent = false
	fmt.Fprintf(w, `{"token":"c4n4ry-token-%d"}`, g.issued)
}

func (g *guarded) expire() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.spent = true
}
