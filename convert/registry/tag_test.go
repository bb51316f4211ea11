package registry_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
)

// tagServer is a registry with one tag. It heeds conditions or not, and lets a
// test step in between the look and the write.
type tagServer struct {
	mu      sync.Mutex
	names   digest.Digest
	heeds   bool
	weak    bool   // sends weak entity tags
	before  func() // a PUT
	after   func() // a PUT
	lose    int    // this many answers to a PUT
	ifMatch []string
	ifNone  []string
}

func (s *tagServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case r.URL.Path != "/v2/app/manifests/v1":
	case r.Method == http.MethodHead && s.names == "":
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodHead:
		w.Header().Set("Docker-Content-Digest", s.names.String())
		w.Header().Set("ETag", s.etag())
		w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
		w.Header().Set("Content-Length", "3")
	case r.Method == http.MethodPut:
		s.put(w, r)
	}
}

func (s *tagServer) etag() string {
	if s.weak {
		return `W/"` + s.names.String() + `"`
	}
	return `"` + s.names.String() + `"`
}

func (s *tagServer) put(w http.ResponseWriter, r *http.Request) {
	match, none := r.Header.Get("If-Match"), r.Header.Get("If-None-Match")
	s.ifMatch, s.ifNone = append(s.ifMatch, match), append(s.ifNone, none)
	if s.before != nil {
		s.before()
		s.before = nil
	}
	raw, _ := io.ReadAll(r.Body)
	if s.heeds && (match != "" && match != `"`+s.names.String()+`"` || none == "*" && s.names != "") {
		w.WriteHeader(http.StatusPreconditionFailed)
		return
	}
	s.names = digest.FromBytes(raw)
	if s.after != nil {
		s.after()
	}
	if s.lose > 0 {
		s.lose--
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	w.WriteHeader(http.StatusCreated)
}

func TestTagIsCompareAndSwap(t *testing.T) {
	old, theirs, raw := digest.FromString("old"), digest.FromString("theirs"), "new"
	desc := describe(ocispec.MediaTypeImageManifest, raw)
	for _, c := range []struct {
		name    string
		server  *tagServer
		was     digest.Digest
		step    string // when somebody else writes
		want    error
		names   digest.Digest
		ifMatch []string
		ifNone  []string
	}{
		{name: "new", server: &tagServer{heeds: true}, names: desc.Digest, ifMatch: []string{""}, ifNone: []string{"*"}},
		{name: "moved on", server: &tagServer{heeds: true, names: old}, was: old, names: desc.Digest, ifMatch: []string{`"` + old.String() + `"`}, ifNone: []string{""}},
		{name: "weak entity tags", server: &tagServer{heeds: true, names: old, weak: true}, was: old, names: desc.Digest, ifMatch: []string{`"` + old.String() + `"`}, ifNone: []string{""}},
		{name: "moved before", server: &tagServer{names: theirs}, was: old, want: convert.ErrTagMoved, names: theirs},
		{name: "made before", server: &tagServer{names: theirs}, want: convert.ErrTagMoved, names: theirs},
		{name: "removed before", server: &tagServer{}, was: old, want: convert.ErrTagMoved},
		{name: "done before", server: &tagServer{names: desc.Digest}, was: old, names: desc.Digest},
		{name: "moved in between, 412", server: &tagServer{heeds: true, names: old}, was: old, step: "before", want: convert.ErrTagMoved, names: theirs, ifMatch: []string{`"` + old.String() + `"`}, ifNone: []string{""}},
		{name: "made in between, 412", server: &tagServer{heeds: true}, step: "before", want: convert.ErrTagMoved, names: theirs, ifMatch: []string{""}, ifNone: []string{"*"}},
		{name: "moved after", server: &tagServer{names: old}, was: old, step: "after", want: convert.ErrTagMoved, names: theirs, ifMatch: []string{`"` + old.String() + `"`}, ifNone: []string{""}},
		{name: "the answer is lost, the next look finds our own", server: &tagServer{heeds: true, names: old, lose: 1}, was: old, names: desc.Digest,
			ifMatch: []string{`"` + old.String() + `"`}, ifNone: []string{""}},
		// The window that remains on a registry that ignores conditions.
		{name: "moved in between, unseen", server: &tagServer{names: old}, was: old, step: "before", names: desc.Digest, ifMatch: []string{`"` + old.String() + `"`}, ifNone: []string{""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.server
			move := func() { s.names = theirs }
			switch c.step {
			case "before":
				s.before = move
			case "after":
				s.after = move
			}
			_, host := serve(t, map[string]http.HandlerFunc{"HEAD /v2/app/manifests/v1": s.ServeHTTP, "PUT /v2/app/manifests/v1": s.ServeHTTP})
			err := mustCreate(t, host+"/app:v1").Tag(t.Context(), desc, []byte(raw), c.was)
			if !errors.Is(err, c.want) {
				t.Fatalf("Tag = %v, want %v", err, c.want)
			}
			if s.names != c.names {
				t.Errorf("the tag names %s, want %s", s.names, c.names)
			}
			if diff := cmp.Diff(c.ifMatch, s.ifMatch); diff != "" {
				t.Errorf("If-Match (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.ifNone, s.ifNone); diff != "" {
				t.Errorf("If-None-Match (-want +got):\n%s", diff)
			}
		})
	}
}

// A write that has to wait looks again first: what was moved meanwhile is not
// overwritten, also where the registry ignores conditions.
func TestTagLooksAgainBeforeItWritesAgain(t *testing.T) {
	old, theirs, raw := digest.FromString("old"), digest.FromString("theirs"), "new"
	desc := describe(ocispec.MediaTypeImageManifest, raw)
	put := "PUT /v2/app/manifests/v1"
	for name, busy := range map[string]http.HandlerFunc{"asked to wait": status(503, "Retry-After", "30"), "broken off": hangUp} {
		t.Run(name, func(t *testing.T) {
			s := &tagServer{names: old}
			_, host := serve(t, map[string]http.HandlerFunc{"HEAD /v2/app/manifests/v1": s.ServeHTTP, put: turns(busy, s.ServeHTTP)})
			dst, err := registry.Create(host+"/app:v1", options().WithoutWaiting(func(time.Duration) {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.names = theirs
			}))
			if err != nil {
				t.Fatal(err)
			}
			if err := dst.Tag(t.Context(), desc, []byte(raw), old); !errors.Is(err, convert.ErrTagMoved) || s.names != theirs {
				t.Errorf("Tag = %v, the tag names %s, want ErrTagMoved and %s", err, s.names, theirs)
			}
		})
	}
}

func TestTagGivesUp(t *testing.T) {
	raw := "new"
	desc := describe(ocispec.MediaTypeImageManifest, raw)
	s, host := serve(t, map[string]http.HandlerFunc{"HEAD /v2/app/manifests/v1": status(503)})
	err := mustCreate(t, host+"/app:v1").Tag(t.Context(), desc, []byte(raw), "")
	if got := len(s.requests()); !errors.Is(err, errdefs.ErrUnavailable) || got != 5 {
		t.Errorf("Tag = %v after %d requests, want ErrUnavailable after 5", err, got)
	}
}

func TestMount(t *testing.T) {
	desc := describe("application/octet-stream", "layer")
	uploads := "/v2/team/app/blobs/uploads/"
	mount := fmt.Sprintf("POST %s?from=base&mount=sha256%%3A%s", uploads, desc.Digest.Encoded())
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		want   bool
		fails  bool
		asked  []string
	}{
		{"mounted", status(201), true, false, []string{mount}},
		{"not mounted", status(202, "Location", "/v2/team/app/blobs/uploads/1?_state=s"), false, false, []string{mount, "DELETE " + uploads + "1?_state=s"}},
		{"not allowed", status(403), false, false, []string{mount}},
		{"not known", status(404), false, false, []string{mount}},
		{"not offered", status(405), false, false, []string{mount}},
		{"broken", status(500), false, true, []string{mount, mount, mount, mount, mount}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, host := serve(t, map[string]http.HandlerFunc{"POST " + uploads: c.answer, "DELETE " + uploads + "1": status(204)})
			got, err := mustCreate(t, host+"/team/app:v1").Mount(t.Context(), desc, mustOpen(t, host+"/base:v1"))
			if got != c.want || (err != nil) != c.fails {
				t.Errorf("Mount = %v, %v, want %v", got, err, c.want)
			}
			if diff := cmp.Diff(c.asked, s.requests()); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("from elsewhere", func(t *testing.T) {
		s, host := serve(t, nil)
		dst := mustCreate(t, host+"/team/app:v1")
		for _, from := range []convert.Source{mustOpen(t, "other.example/base:v1"), mustOpen(t, host+"/team/app:v2"), mustCreate(t, "oci:"+t.TempDir())} {
			if got, err := dst.Mount(t.Context(), desc, from); got || err != nil {
				t.Errorf("Mount from %s = %v, %v", from.Name(), got, err)
			}
		}
		if got := s.requests(); len(got) != 0 {
			t.Errorf("asked %q", got)
		}
	})
	t.Run("the token reads the source", func(t *testing.T) {
		g, host := guard(t, true)
		dst, err := registry.Create(host+"/team/app:v1", loggedIn())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := dst.Mount(t.Context(), desc, mustOpen(t, host+"/base:v1")); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"repository:team/app:push,pull repository:base:pull"}, g.scopes); diff != "" {
			t.Errorf("scopes (-want +got):\n%s", diff)
		}
	})
	t.Run("distribution", func(t *testing.T) {
		host := distribution(t)
		src := mustCreate(t, host+"/base:v1")
		push(t, src, desc, "layer")
		dst := mustCreate(t, host+"/team/app:v1")
		if got, err := dst.Mount(t.Context(), desc, src); !got || err != nil {
			t.Fatalf("Mount = %v, %v", got, err)
		}
		if got := fetch(t, dst, desc); got != "layer" {
			t.Errorf("got %q", got)
		}
		absent := describe("application/octet-stream", "absent")
		if got, err := dst.Mount(t.Context(), absent, src); got || err != nil {
			t.Errorf("Mount of nothing = %v, %v", got, err)
		}
	})
}

// An error of the content's source is the source's, not the target's answer.
func TestPushFromAnotherRegistry(t *testing.T) {
	desc := describe("application/octet-stream", "layer")
	_, from := serve(t, nil) // has nothing
	s, host := serve(t, map[string]http.HandlerFunc{
		"POST /v2/app/blobs/uploads/": status(202, "Location", "/v2/app/blobs/uploads/1"),
		"PUT /v2/app/blobs/uploads/1": status(201),
	})
	src := mustOpen(t, from+"/app:v1")
	err := mustCreate(t, host+"/app:v1").Push(t.Context(), desc, func() (io.ReadCloser, error) { return src.Fetch(t.Context(), desc) })
	if !errors.Is(err, convert.ErrNotFound) || !strings.Contains(err.Error(), from) {
		t.Errorf("Push = %v, want the source's 404", err)
	}
	if n := len(s.header("POST", "Host")); n != 1 {
		t.Errorf("%d upload sessions, want 1", n)
	}
}

// Content of another size than announced is nobody's network.
func TestPushOfAnotherSize(t *testing.T) {
	eachProtocol(t, func(t *testing.T, open opening) {
		for _, blob := range []string{"lay", "layers"} {
			desc := describe("application/octet-stream", "layer")
			s := &script{on: map[string]http.HandlerFunc{
				"POST /v2/app/blobs/uploads/": status(202, "Location", "/v2/app/blobs/uploads/1"),
				"PUT /v2/app/blobs/uploads/1": func(_ http.ResponseWriter, r *http.Request) {
					io.Copy(io.Discard, r.Body)
					<-r.Context().Done() // an answer may be there before the client has seen that there is more
				},
			}}
			err := open(t, s, options()).Push(t.Context(), desc, opener(blob))
			if !errors.Is(err, errdefs.ErrInvalidArgument) {
				t.Errorf("Push of %d bytes as %d = %v, want ErrInvalidArgument", len(blob), desc.Size, err)
			}
			if n := len(s.header("POST", "Host")); n != 1 {
				t.Errorf("%d upload sessions, want 1", n)
			}
		}
	})
}

// What a push meets on the road: a new session for each attempt, and no upload
// of what came through although its answer was lost.
func TestPushAttempts(t *testing.T) { eachProtocol(t, testPushAttempts) }

func testPushAttempts(t *testing.T, open opening) {
	blob := strings.Repeat("x", 1000)
	desc := describe("application/octet-stream", blob)
	path := "/v2/app/blobs/" + desc.Digest.String()
	session := status(202, "Location", "/v2/app/blobs/uploads/1?_state=s")
	put := "PUT /v2/app/blobs/uploads/1?_state=s&digest=" + strings.Replace(desc.Digest.String(), ":", "%3A", 1)
	head, post := "HEAD "+path, "POST /v2/app/blobs/uploads/"
	readAll := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if got, err := io.ReadAll(r.Body); string(got) != blob || err != nil {
				t.Errorf("the body was %d bytes, %v", len(got), err)
			}
			w.WriteHeader(code)
		}
	}
	brokenOff := func(w http.ResponseWriter, r *http.Request) {
		io.CopyN(io.Discard, r.Body, 500)
		hangUp(w, r)
	}
	for _, c := range []struct {
		name   string
		head   []http.HandlerFunc
		post   []http.HandlerFunc
		put    []http.HandlerFunc
		opened int
		fails  bool
		asked  []string
	}{
		{"at once", []http.HandlerFunc{status(404)}, []http.HandlerFunc{session}, []http.HandlerFunc{readAll(201)}, 1, false, []string{head, post, put}},
		{"busy, then at once", []http.HandlerFunc{status(404)}, []http.HandlerFunc{status(429, "Retry-After", "0"), session}, []http.HandlerFunc{readAll(201)}, 1, false, []string{head, post, head, post, put}},
		{"a broken PUT", []http.HandlerFunc{status(404)}, []http.HandlerFunc{session}, []http.HandlerFunc{brokenOff, readAll(201)}, 2, false, []string{head, post, put, head, post, put}},
		{"a lost session", []http.HandlerFunc{status(404)}, []http.HandlerFunc{session}, []http.HandlerFunc{readAll(404), readAll(201)}, 2, false, []string{head, post, put, head, post, put}},
		{"a lost answer", []http.HandlerFunc{status(404), status(200)}, []http.HandlerFunc{session}, []http.HandlerFunc{readAll(502)}, 1, false, []string{head, post, put, head}},
		{"refused", []http.HandlerFunc{status(404)}, []http.HandlerFunc{session}, []http.HandlerFunc{readAll(413)}, 1, true, []string{head, post, put}},
		{"no location", []http.HandlerFunc{status(404)}, []http.HandlerFunc{status(202)}, nil, 0, true, []string{head, post}},
	} {
		t.Run(c.name, func(t *testing.T) {
			on := map[string]http.HandlerFunc{head: turns(c.head...), post: turns(c.post...)}
			if c.put != nil {
				on["PUT /v2/app/blobs/uploads/1"] = turns(c.put...)
			}
			s := &script{on: on}
			opened := 0
			err := open(t, s, options()).Push(t.Context(), desc, func() (io.ReadCloser, error) {
				opened++
				return opener(blob)()
			})
			if (err != nil) != c.fails {
				t.Errorf("Push = %v", err)
			}
			if opened != c.opened {
				t.Errorf("opened %d times, want %d", opened, c.opened)
			}
			if diff := cmp.Diff(c.asked, s.requests()); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}
