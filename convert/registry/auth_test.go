package registry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
)

func guard(t *testing.T, bearer bool) (*guarded, string) {
	t.Helper()
	g := &guarded{h: ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))), bearer: bearer}
	s := httptest.NewServer(g)
	t.Cleanup(s.Close)
	return g, strings.TrimPrefix(s.URL, "http://")
}

func TestCredentials(t *testing.T) {
	for name, bearer := range map[string]bool{"basic": false, "bearer": true} {
		t.Run(name, func(t *testing.T) {
			g, host := guard(t, bearer)
			dst, err := registry.Create(host+"/team/app:v1", loggedIn())
			if err != nil {
				t.Fatal(err)
			}
			desc, raw := image(t, dst, "one", nil)
			if err := dst.Tag(t.Context(), desc, raw, ""); err != nil {
				t.Fatal(err)
			}
			// The token runs out before the body of a PUT: all of it is sent again.
			blob := strings.Repeat("layer", 1<<16)
			layer := describe("application/octet-stream", blob)
			opened := 0
			err = dst.Push(t.Context(), layer, func() (io.ReadCloser, error) {
				opened++
				if opened == 1 {
					g.expire()
				}
				return opener(blob)()
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := fetch(t, dst, layer); got != blob {
				t.Errorf("got %d bytes, want %d", len(got), len(blob))
			}
			if bearer {
				if diff := cmp.Diff("repository:team/app:push,pull", g.scopes[0]); diff != "" {
					t.Errorf("scope (-want +got):\n%s", diff)
				}
			}

			_, err = mustOpen(t, host+"/team/app:v1").Root(t.Context())
			if !errors.Is(err, errdefs.ErrUnauthenticated) {
				t.Errorf("without credentials: %v, want ErrUnauthenticated", err)
			}
		})
	}
}

// A blob that lies elsewhere is fetched there without the registry's
// credentials, whichever kind they are.
func TestRedirectsKeepCredentials(t *testing.T) {
	body := "the layer"
	desc := describe("application/octet-stream", body)
	for name, bearer := range map[string]bool{"basic": false, "bearer": true} {
		t.Run(name, func(t *testing.T) {
			store, storeHost := serve(t, map[string]http.HandlerFunc{"GET /bucket": content("application/octet-stream", body), "PUT /bucket": status(201)})
			g := &guarded{bearer: bearer, h: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path == "/v2/":
				case r.Method == "GET":
					http.Redirect(w, r, "http://"+storeHost+"/bucket?X-Signature=abc", http.StatusTemporaryRedirect)
				case r.Method == "POST":
					w.Header().Set("Location", "http://"+storeHost+"/bucket?X-Signature=abc")
					w.WriteHeader(http.StatusAccepted)
				default:
					http.NotFound(w, r)
				}
			})}
			srv := httptest.NewServer(g)
			defer srv.Close()
			dst, err := registry.Create(strings.TrimPrefix(srv.URL, "http://")+"/app:v1", loggedIn())
			if err != nil {
				t.Fatal(err)
			}
			if got := fetch(t, dst, desc); got != body {
				t.Errorf("got %q", got)
			}
			push(t, dst, desc, body)
			if diff := cmp.Diff([]string{
				"GET /bucket?X-Signature=abc",
				"PUT /bucket?X-Signature=abc&digest=" + strings.Replace(desc.Digest.String(), ":", "%3A", 1),
			}, store.requests()); diff != "" {
				t.Errorf("the store was asked (-want +got):\n%s", diff)
			}
			for _, h := range append(store.header("GET", "Authorization"), store.header("PUT", "Authorization")...) {
				if h != "" {
					t.Errorf("the store was told %q", h)
				}
			}
		})
	}
}

func TestRefusedRedirects(t *testing.T) {
	desc := describe("application/octet-stream", "x")
	blob := "/v2/app/blobs/" + desc.Digest.String()
	plain, plainHost := serve(t, map[string]http.HandlerFunc{"GET /stolen": content("text/plain", "x"), "PUT /stolen": status(201)})
	handler := func(hops int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var n int
			fmt.Sscan(r.URL.Query().Get("hop"), &n)
			switch {
			case r.URL.Path == "/v2/":
			case r.Method == "POST":
				w.Header().Set("Location", "http://"+plainHost+"/stolen")
				w.WriteHeader(http.StatusAccepted)
			case r.Method == "HEAD":
				http.NotFound(w, r)
			case n < hops:
				http.Redirect(w, r, fmt.Sprintf("%s?hop=%d", blob, n+1), http.StatusFound)
			case hops == 0:
				http.Redirect(w, r, "http://"+plainHost+"/stolen", http.StatusFound)
			default:
				w.Write([]byte("x"))
			}
		})
	}
	for _, c := range []struct {
		name string
		hops int
		kind error
	}{{"five hops", 5, nil}, {"six hops", 6, errdefs.ErrInvalidArgument}, {"to plain http", 0, errdefs.ErrPermissionDenied}} {
		t.Run(c.name, func(t *testing.T) {
			srv := httptest.NewTLSServer(handler(c.hops))
			defer srv.Close()
			o := options()
			o.Transport, o.Insecure = srv.Client().Transport, true
			dst, err := registry.Create(strings.TrimPrefix(srv.URL, "https://")+"/app:v1", o)
			if err != nil {
				t.Fatal(err)
			}
			rc, err := dst.Fetch(t.Context(), desc)
			if !errors.Is(err, c.kind) {
				t.Errorf("Fetch = %v, want %v", err, c.kind)
			}
			if err == nil {
				rc.Close()
			}
			if c.hops == 0 {
				err := dst.Push(t.Context(), desc, opener("x"))
				if !errors.Is(err, errdefs.ErrPermissionDenied) {
					t.Errorf("Push = %v, want ErrPermissionDenied", err)
				}
			}
		})
	}
	if got := plain.requests(); len(got) != 0 {
		t.Errorf("the plain host was asked %q", got)
	}
}

// Whatever goes wrong, the password is not in the error.
func TestErrorsHoldNoSecret(t *testing.T) {
	desc := describe(ocispec.MediaTypeImageManifest, "manifest")
	echo := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(401)
			return
		}
		_, password, _ := r.BasicAuth()
		w.WriteHeader(418)
		fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":"%s or %s\nand more","detail":"%s"}]}`, r.Header.Get("Authorization"), password, password)
	}
	noToken := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			fmt.Fprint(w, `{"refresh_token":"c4n4ry, of the server's own making"}`)
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token"`)
		w.WriteHeader(401)
	}
	identity := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			w.WriteHeader(400)
			fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":"%s is no good"}]}`, r.FormValue("refresh_token"))
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token"`)
		w.WriteHeader(401)
	}
	echoToken := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			w.WriteHeader(403)
			fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":"not with %s"}]}`, r.Header.Get("Authorization"))
		}
	})
	signed := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v2/" {
				return
			}
			w.Header().Set("Location", to+"?X-Amz-Signature="+canary)
			w.WriteHeader(http.StatusTemporaryRedirect)
		}
	}
	for name, h := range map[string]http.HandlerFunc{
		"a registry that says it back":      echo,
		"a registry that says its token":    (&guarded{bearer: true, h: echoToken}).ServeHTTP,
		"a token server without tokens":     noToken,
		"an identity token that is refused": identity,
		"a signed URL that is refused":      signed("http://127.0.0.1:1/x"),
		"a signed URL of no sense":          signed("http://user:" + canary + "@[::1"),
		"a loop of signed URLs":             signed(""),
		"a realm with a password":           challenge(`Bearer realm="http://user:` + canary + `@127.0.0.1:1/token"`),
		"a realm of no sense":               challenge(`Bearer realm="ftp://user:` + canary + `@host/` + canary + `"`),
		"a wrong password":                  (&guarded{bearer: true, h: http.NotFoundHandler()}).ServeHTTP,
		"hanging up":                        hangUp,
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(h)
			defer srv.Close()
			o := loggedIn()
			switch name {
			case "a wrong password":
				o.Keychain = keychain{Username: "nobody", Password: canary}
			case "an identity token that is refused":
				o.Keychain = keychain{IdentityToken: canary}
			}
			dst, err := registry.Create(strings.TrimPrefix(srv.URL, "http://")+"/app:v1", o)
			if err != nil {
				t.Fatal(err)
			}
			from := mustOpen(t, strings.TrimPrefix(srv.URL, "http://")+"/other:v1")
			for call, f := range map[string]func() error{
				"Root":        func() error { _, err := dst.Root(t.Context()); return err },
				"Head":        func() error { _, err := dst.Head(t.Context()); return err },
				"Fetch":       func() error { _, err := dst.Fetch(t.Context(), desc); return err },
				"Has":         func() error { _, err := dst.Has(t.Context(), desc); return err },
				"Push":        func() error { return dst.Push(t.Context(), desc, opener("manifest")) },
				"PutManifest": func() error { return dst.PutManifest(t.Context(), desc, []byte("manifest")) },
				"Tag":         func() error { return dst.Tag(t.Context(), desc, []byte("manifest"), "") },
				"Referrers":   func() error { _, err := dst.Referrers(t.Context(), desc.Digest); return err },
				"Mount":       func() error { _, err := dst.Mount(t.Context(), desc, from); return err },
			} {
				err := f()
				if err == nil {
					if call != "Mount" { // not being possible is no error there
						t.Errorf("%s did not fail", call)
					}
					continue
				}
				holdsNoSecret(t, call, err)
			}
		})
	}
}

func challenge(c string) http.HandlerFunc { return status(401, "WWW-Authenticate", c) }

// holdsNoSecret looks at every error in err's tree, and every way to print it.
func holdsNoSecret(t *testing.T, call string, err error) {
	t.Helper()
	for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)} {
		if strings.Contains(text, "c4n4ry") || strings.Contains(text, "dXNlcjpjNG40cnk") || strings.Contains(text, "\n") {
			t.Fatalf("%s: %s", call, text)
		}
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			holdsNoSecret(t, call, inner)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			holdsNoSecret(t, call, inner)
		}
	}
}

func TestPlainHTTP(t *testing.T) {
	s, host := serve(t, nil)
	toServer := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, host)
	}}
	for name, insecure := range map[string]bool{"10.1.2.3:5000": false, "registry.example:5000": false, "registry.example:5001": true} {
		o := options()
		o.Transport, o.Insecure = toServer, insecure
		src, err := registry.Open(name+"/app:v1", o)
		if err != nil {
			t.Fatal(err)
		}
		before := len(s.requests())
		_, err = src.Root(t.Context())
		if asked := len(s.requests()) > before; asked != insecure {
			t.Errorf("%s with Insecure %v: asked %v, %v", name, insecure, asked, err)
		}
	}
}

func TestOtherSchemes(t *testing.T) {
	s, host := serve(t, map[string]http.HandlerFunc{"GET /v2/app/manifests/v1": status(307, "Location", "ftp://127.0.0.1/x")})
	_, err := mustOpen(t, host+"/app:v1").Root(t.Context())
	if !errors.Is(err, errdefs.ErrInvalidArgument) || len(s.requests()) != 1 {
		t.Errorf("Root = %v after %q, want one request and ErrInvalidArgument", err, s.requests())
	}
}

func TestDenyPrivate(t *testing.T) {
	s, host := serve(t, nil)
	_, port, _ := strings.Cut(host, ":")
	for _, h := range []string{host, "localhost:" + port} {
		o := options()
		o.DenyPrivate = true
		src, err := registry.Open(h+"/app:v1", o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := src.Root(t.Context()); !errors.Is(err, errdefs.ErrPermissionDenied) || errors.Is(err, convert.ErrNotFound) {
			t.Errorf("%s: %v, want ErrPermissionDenied", h, err)
		}
	}
	if got := s.requests(); len(got) != 0 {
		t.Errorf("the private host was asked %q", got)
	}
	o := options()
	o.DenyPrivate, o.Transport = true, roundTripper(nil)
	if _, err := registry.Open(host+"/app:v1", o); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("a transport that cannot be guarded: %v", err)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestPublicAddresses(t *testing.T) {
	for a, want := range map[string]bool{
		"93.184.216.34": true, "2606:2800:220:1::1": true,
		"127.0.0.1": false, "10.0.0.1": false, "172.16.0.1": false, "192.168.1.1": false, "169.254.169.254": false,
		"100.64.0.1": false, "0.0.0.0": false, "0.1.2.3": false, "224.0.0.1": false, "255.255.255.255": false, "198.18.0.1": false,
		"::1": false, "::": false, "fe80::1": false, "fe80::1%eth0": false, "fd00:ec2::254": false, "ff02::1": false,
		"::ffff:127.0.0.1": false, "::ffff:93.184.216.34": true, "::127.0.0.1": false,
		"64:ff9b::7f00:1": false, "2002:7f00:1::": false, "2001::1": false, "fec0::1": false,
	} {
		if got := registry.Public(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s is public: %v, want %v", a, got, want)
		}
	}
}

func TestRedact(t *testing.T) {
	for text, want := range map[string]string{
		"nothing to see": "nothing to see",
		`Get "https://u:p@h/v2/x?scope=a&X-Amz-Signature=s": EOF`: `Get "https://REDACTED@h/v2/x?X-Amz-Signature=REDACTED&scope=a": EOF`,
		"https://token@h/x and http://h/y?sig=1#access_token=2":   "https://REDACTED@h/x and http://h/y?sig=REDACTED",
		"https://u:p%zz@h/":   "https://REDACTED",
		"https://h/x?a=1;b=2": "https://h/x",
		"oci:/var/x@y:tag":    "oci:/var/x@y:tag",
	} {
		if got := registry.Redact(text); got != want {
			t.Errorf("Redact(%q) = %q, want %q", text, got, want)
		}
	}
}
