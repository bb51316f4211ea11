package registry_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lithify/lithify/convert/registry"
)

// silences records what Options.Quiet is told.
type silences struct {
	mu    sync.Mutex
	told  []silence
	open  int
	begun chan silence // hears of each, if it has room
}

type silence struct {
	bound time.Duration
	why   string
}

func (s *silences) quiet(_ context.Context, bound time.Duration, why string) func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := silence{bound, why}
	s.told = append(s.told, now)
	s.open++
	select {
	case s.begun <- now:
	default:
	}
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.open--
	})
}

// now is how many there are at this moment.
func (s *silences) now() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

func (s *silences) has(why string, bound time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.told, func(q silence) bool { return strings.HasPrefix(q.why, why) && q.bound == bound })
}

// reader fails a test in which content is sent in silence.
type reader struct {
	io.Reader
	read func()
}

func (r reader) Read(p []byte) (int, error) { r.read(); return r.Reader.Read(p) }

func TestSilenceIsDeclared(t *testing.T) { eachProtocol(t, testSilenceIsDeclared) }

func testSilenceIsDeclared(t *testing.T, open opening) {
	blob := strings.Repeat("x", 1<<20)
	desc := describe("application/octet-stream", blob)
	told := &silences{begun: make(chan silence, 64)}
	s := &script{on: map[string]http.HandlerFunc{
		"POST /v2/app/blobs/uploads/": turns(status(503, "Retry-After", "30"), status(202, "Location", "/v2/app/blobs/uploads/1")),
		"PUT /v2/app/blobs/uploads/1": func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			for waiting := false; !waiting; { // as a registry that composes the blob
				select {
				case q := <-told.begun:
					waiting = strings.HasPrefix(q.why, "waiting for an answer") && q.bound >= registry.HeaderTimeout
				case <-r.Context().Done():
					t.Error("the wait for an answer was not declared")
					return
				}
			}
			w.WriteHeader(http.StatusCreated)
		},
	}}
	o := options()
	o.Quiet = told.quiet
	o = o.WithoutWaiting(func(time.Duration) {
		if told.now() == 0 {
			t.Error("the wait before asking again was not declared")
		}
	})
	dst := open(t, s, o)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := dst.Push(ctx, desc, func() (io.ReadCloser, error) {
		return io.NopCloser(reader{strings.NewReader(blob), func() {
			if told.now() != 0 {
				t.Error("silence is declared while the content is sent")
			}
		}}), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !told.has("waiting to ask again", 30*time.Second) {
		t.Errorf("told %v, want a wait of 30 s", told.told)
	}
	if n := told.now(); n != 0 {
		t.Errorf("%d of %v have not ended", n, told.told)
	}
}

// A registry that ignores ranges sends again what was read, and the job, to which
// nothing comes, is alive as long as that moves.
func TestSkippingIsDeclared(t *testing.T) { eachProtocol(t, testSkippingIsDeclared) }

func testSkippingIsDeclared(t *testing.T, open opening) {
	const pieces, piece = 9, 100
	blob := strings.Repeat("x", (pieces+1)*piece)
	desc := describe("application/octet-stream", blob)
	told := &silences{begun: make(chan silence, 64)}
	again := func(w http.ResponseWriter, r *http.Request) {
		for range pieces {
			w.(http.Flusher).Flush()
			for skipping := false; !skipping; {
				select {
				case q := <-told.begun:
					skipping = strings.HasPrefix(q.why, "skipping")
				case <-r.Context().Done():
					t.Error("skipping was not declared again")
					return
				}
			}
			io.WriteString(w, blob[:piece])
		}
		io.WriteString(w, blob[:piece])
	}
	s := &script{on: map[string]http.HandlerFunc{
		"GET /v2/app/blobs/" + desc.Digest.String(): turns(cut(blobServer(blob, false), pieces*piece, false), again),
	}}
	o := options()
	o.Quiet = told.quiet
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	rc, err := open(t, s, o).Fetch(ctx, desc)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if got, err := io.ReadAll(rc); err != nil || string(got) != blob {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	if n := told.now(); n != 0 {
		t.Errorf("%d of %v have not ended", n, told.told)
	}
}

func TestDiallingIsDeclared(t *testing.T) {
	_, host := serve(t, nil)
	told := &silences{}
	o := options()
	o.Quiet = told.quiet
	o.Transport = &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if told.now() == 0 {
			t.Error("dialling was not declared")
		}
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}}
	dst, err := registry.Create(host+"/app:v1", o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dst.Root(t.Context()); err == nil {
		t.Error("there is an image")
	}
	if n := told.now(); n != 0 {
		t.Errorf("%d of %v have not ended", n, told.told)
	}
}

func TestSyncingIsDeclared(t *testing.T) {
	told := &silences{}
	o := options()
	o.Quiet = told.quiet
	dst, err := registry.Create("oci:"+filepath.Join(t.TempDir(), "layout")+":v1", o)
	if err != nil {
		t.Fatal(err)
	}
	desc := describe("application/octet-stream", "layer")
	push(t, dst, desc, "layer")
	if len(told.told) != 1 || !strings.HasPrefix(told.told[0].why, "syncing") || told.now() != 0 {
		t.Errorf("told %v, %d not ended, want one sync", told.told, told.now())
	}
}
