package registry_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/lithify/lithify/convert"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// streamer is a target that takes blobs while they are made.
type streamer interface {
	PushStream(context.Context, func(io.Writer) (ocispec.Descriptor, error)) error
}

func testPushStream(t *testing.T, create func(string) convert.Target) {
	dst := create("v1")
	s, ok := dst.(streamer)
	if !ok {
		t.Skip("files are taken whole")
	}
	content := strings.Repeat("rock ", 1<<18)
	desc := describe("application/octet-stream", content)
	write := func(w io.Writer) (ocispec.Descriptor, error) {
		for _, part := range []string{content[:1], content[1:70000], content[70000:]} {
			if _, err := io.WriteString(w, part); err != nil {
				return desc, err
			}
		}
		return desc, nil
	}
	boom := errors.New("boom")
	err := s.PushStream(t.Context(), func(w io.Writer) (ocispec.Descriptor, error) {
		_, err := write(w)
		return desc, errors.Join(err, boom)
	})
	if !errors.Is(err, boom) {
		t.Errorf("got %v, want the writer's own error", err)
	}
	if has, err := dst.Has(t.Context(), desc); has || err != nil {
		t.Errorf("after an error: Has = %v, %v", has, err)
	}
	err = s.PushStream(t.Context(), func(w io.Writer) (ocispec.Descriptor, error) {
		write(w)
		return describe("application/octet-stream", "something else"), nil
	})
	if err == nil {
		t.Error("the registry took bytes of another digest")
	}
	if err := s.PushStream(t.Context(), write); err != nil {
		t.Fatal(err)
	}
	rc, err := dst.Fetch(t.Context(), desc)
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, rc); got != content {
		t.Errorf("got %d bytes, want %d", len(got), len(content))
	}
}

// A registry that gives up in the middle ends the writer, and is not asked twice: of what
// it wants again the beginning is gone.
func TestPushStreamIsNotRepeated(t *testing.T) {
	for name, answer := range map[string]int{"a token that expired": http.StatusUnauthorized, "no more room": http.StatusInsufficientStorage, "a restart": http.StatusServiceUnavailable} {
		t.Run(name, func(t *testing.T) {
			eachProtocol(t, func(t *testing.T, create opening) {
				seen := &script{on: map[string]http.HandlerFunc{
					"POST /v2/app/blobs/uploads/": func(w http.ResponseWriter, r *http.Request) {
						w.Header().Set("Location", "/v2/app/blobs/uploads/1")
						w.WriteHeader(http.StatusAccepted)
					},
					"PATCH /v2/app/blobs/uploads/1": func(w http.ResponseWriter, r *http.Request) {
						io.CopyN(io.Discard, r.Body, 100<<10)
						w.WriteHeader(answer)
					},
				}}
				writes := 0
				err := create(t, seen, options()).(streamer).PushStream(t.Context(), func(w io.Writer) (ocispec.Descriptor, error) {
					writes++
					_, err := io.Copy(w, io.LimitReader(zeros{}, 64<<20))
					if err == nil {
						err = errors.New("the writer was not told")
					}
					return ocispec.Descriptor{}, err
				})
				if err == nil || strings.Contains(err.Error(), "was not told") || !strings.Contains(err.Error(), "/app") {
					t.Errorf("got %v, want the registry's answer", err)
				}
				if writes != 1 {
					t.Errorf("written %d times", writes)
				}
				sent := 0
				for _, r := range seen.requests() {
					if strings.HasPrefix(r, "PATCH") {
						sent++
					}
				}
				if last := seen.requests()[len(seen.requests())-1]; !strings.HasPrefix(last, "DELETE") {
					t.Errorf("the last request is %s, want the end of the session", last)
				}
				if sent != 1 {
					t.Errorf("sent %d times", sent)
				}
			})
		})
	}
}
