package registry_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
)

func TestMediaTypes(t *testing.T) {
	const (
		list    = "application/vnd.docker.distribution.manifest.list.v2+json"
		schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
	)
	for _, c := range []struct{ name, header, body, want string }{
		{"an index", ocispec.MediaTypeImageIndex, `{}`, ocispec.MediaTypeImageIndex},
		{"a parameter", ocispec.MediaTypeImageIndex + "; charset=utf-8", `{}`, ocispec.MediaTypeImageIndex},
		{"docker's list", list, `{"schemaVersion":2}`, list},
		{"schema 1", schema1, `{"schemaVersion":1}`, schema1},
		{"a file server, schema 1", "application/json", `{"schemaVersion":1}`, schema1},
		{"a file server, its own word", "text/plain", `{"mediaType":"` + list + `"}`, list},
		{"a file server, an index", "application/octet-stream", `{"schemaVersion":2,"manifests":[]}`, ocispec.MediaTypeImageIndex},
		{"a file server, a manifest", "application/json", `{"schemaVersion":2,"config":{}}`, ocispec.MediaTypeImageManifest},
		{"something else", "text/html", `<html>`, "text/html"},
		{"unknown", "application/vnd.example+json", `{"schemaVersion":2,"config":{}}`, "application/vnd.example+json"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, host := serve(t, map[string]http.HandlerFunc{"GET /v2/app/manifests/v1": content(c.header, c.body)})
			src := mustOpen(t, host+"/app:v1")
			got, err := src.Root(t.Context())
			if diff := cmp.Diff(describe(c.want, c.body), got); diff != "" || err != nil {
				t.Errorf("Root (-want +got):\n%s%v", diff, err)
			}
			for _, want := range []string{list, schema1, ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest} {
				if !strings.Contains(s.header("GET", "Accept")[0], want) {
					t.Errorf("%s was not accepted", want)
				}
			}
		})
	}
}

// The tag is asked for once, however many ask, and its manifest is not fetched
// a second time.
func TestRootAsksOnce(t *testing.T) {
	body := `{"schemaVersion":2}`
	s, host := serve(t, map[string]http.HandlerFunc{"GET /v2/app/manifests/v1": turns(status(403), content(ocispec.MediaTypeImageManifest, body), status(404))})
	src := mustOpen(t, host+"/app:v1")
	if _, err := src.Root(t.Context()); !errors.Is(err, errdefs.ErrPermissionDenied) {
		t.Fatalf("Root = %v", err) // an error is not remembered
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := src.Root(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := fetch(t, src, describe(ocispec.MediaTypeImageManifest, body)); got != body {
		t.Errorf("got %q", got)
	}
	if got := s.requests(); len(got) != 2 {
		t.Errorf("asked %q", got)
	}
}

func TestWrongManifests(t *testing.T) {
	want := describe(ocispec.MediaTypeImageManifest, "right")
	at := "/v2/app/manifests/" + want.Digest.String()
	other := digest.FromString("other").String()
	_, host := serve(t, map[string]http.HandlerFunc{
		"GET " + at: content(ocispec.MediaTypeImageManifest, "wrong"),
		"PUT " + at: status(201, "Docker-Content-Digest", other),
	})
	if _, err := mustOpen(t, host+"/app@"+want.Digest.String()).Root(t.Context()); !errors.Is(err, errdefs.ErrDataLoss) {
		t.Errorf("Root by digest = %v, want ErrDataLoss", err)
	}
	dst := mustCreate(t, host+"/app:v1")
	if _, err := dst.Fetch(t.Context(), want); !errors.Is(err, errdefs.ErrDataLoss) {
		t.Errorf("Fetch = %v, want ErrDataLoss", err)
	}
	if err := dst.PutManifest(t.Context(), want, []byte("right")); !errors.Is(err, errdefs.ErrDataLoss) {
		t.Errorf("PutManifest = %v, want ErrDataLoss", err)
	}
}

// A registry whose HEAD says no digest is asked for the manifest.
func TestHeadWithoutDigest(t *testing.T) {
	body := `{"schemaVersion":2}`
	_, host := serve(t, map[string]http.HandlerFunc{
		"HEAD /v2/app/manifests/v1": content(ocispec.MediaTypeImageManifest, body),
		"GET /v2/app/manifests/v1":  content(ocispec.MediaTypeImageManifest, body),
	})
	wantHead(t, mustCreate(t, host+"/app:v1"), describe(ocispec.MediaTypeImageManifest, body))
}

func TestReferrersPages(t *testing.T) {
	d := digest.FromString("subject")
	entry := func(s string) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1}`, ocispec.MediaTypeImageManifest, digest.FromString(s))
	}
	api := "/v2/app/referrers/" + d.String()
	page := func(link string, entries ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", link)
			content(ocispec.MediaTypeImageIndex, `{"manifests":[`+strings.Join(entries, ",")+`]}`)(w, r)
		}
	}
	fallback := "GET /v2/app/manifests/sha256-" + d.Encoded()
	for _, c := range []struct {
		name string
		on   map[string]http.HandlerFunc
		want int
		kind error
	}{
		{"two pages", map[string]http.HandlerFunc{"GET " + api: turns(page("<"+api+`?n=2&last=x>; rel="next"`, entry("a"), entry("b")), page("", entry("b"), entry("c")))}, 3, nil},
		{"pages without end", map[string]http.HandlerFunc{"GET " + api: page("<"+api+`?last=x>; rel="next"`, entry("a"))}, 0, errdefs.ErrOutOfRange},
		{"pages elsewhere", map[string]http.HandlerFunc{"GET " + api: page(`<http://127.0.0.1:1/x>; rel="next"`, entry("a"))}, 1, nil},
		{"not offered", map[string]http.HandlerFunc{"GET " + api: status(405), fallback: page("", entry("a"))}, 1, nil},
		{"a web page", map[string]http.HandlerFunc{"GET " + api: content("text/html", "<html>"), fallback: page("", entry("a"))}, 1, nil},
		{"forbidden", map[string]http.HandlerFunc{"GET " + api: status(403)}, 0, errdefs.ErrPermissionDenied},
		{"no index", map[string]http.HandlerFunc{"GET " + api: content(ocispec.MediaTypeImageIndex, `x`)}, 0, errdefs.ErrInvalidArgument},
		{"a path for a digest", map[string]http.HandlerFunc{"GET " + api: content(ocispec.MediaTypeImageIndex, `{"manifests":[{"digest":"sha256:../../x"}]}`)}, 0, errdefs.ErrInvalidArgument},
		{"a signature that cannot be looked for", map[string]http.HandlerFunc{"HEAD /v2/app/manifests/sha256-" + d.Encoded() + ".sig": status(403)}, 0, errdefs.ErrPermissionDenied},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, host := serve(t, c.on)
			got, err := mustOpen(t, host+"/app:v1").Referrers(t.Context(), d)
			if len(got) != c.want || !errors.Is(err, c.kind) {
				t.Errorf("Referrers = %v, %v, want %d, %v", got, err, c.want, c.kind)
			}
		})
	}
}

// Every request has a span, a repeated one too, and no span tells a secret or
// has a digest in its name.
func TestSpans(t *testing.T) {
	seen := tracetest.NewInMemoryExporter()
	before := otel.GetTracerProvider()
	otel.SetTracerProvider(trace.NewTracerProvider(trace.WithSyncer(seen)))
	t.Cleanup(func() { otel.SetTracerProvider(before) })

	g, host := guard(t, true)
	g.h = turns(status(503, "Retry-After", "0"), g.h.ServeHTTP)
	dst, err := registry.Create(host+"/app:v1", loggedIn())
	if err != nil {
		t.Fatal(err)
	}
	desc := describe("application/octet-stream", "layer")
	push(t, dst, desc, "layer")
	fetch(t, dst, desc)
	if _, err := dst.Head(t.Context()); !errors.Is(err, convert.ErrNotFound) {
		t.Fatal(err)
	}
	var names []string
	for _, s := range seen.GetSpans() {
		if s.Name == "GET ping" {
			continue // one or two, as https is tried beside http
		}
		names = append(names, s.Name)
		text := fmt.Sprintf("%+v", s.Attributes)
		if strings.Contains(text, "c4n4ry") || strings.Contains(text, "sha256") {
			t.Errorf("span %s: %s", s.Name, text)
		}
	}
	want := []string{"GET other", "HEAD blob", "HEAD blob", "POST upload", "PUT upload", "GET blob", "HEAD manifest"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
}
