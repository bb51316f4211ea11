package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	checkpoints "github.com/lithify/lithify/restore/archive"
	"github.com/lithify/lithify/restore/image"
	"github.com/lithify/lithify/restore/set"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// checkpointed is a repository of n checkpoints, each a day older than the one before, and of the
// sets of one of them each. The registry deletes so many manifests.
func checkpointed(t *testing.T, n int, deletions int64) string {
	t.Helper()
	left := atomic.Int64{}
	left.Store(deletions)
	h := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)), ggcr.WithReferrersSupport(true))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete && left.Add(-1) < 0 {
			http.Error(w, `{"errors":[{"code":"DENIED"}]}`, http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	repository := strings.TrimPrefix(s.URL, "http://") + "/web"
	dst := func(tag string) convert.Target {
		target, err := registry.Create(repository+":"+tag, registry.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return target
	}
	for days := n; days > 0; days-- {
		content, taken := fmt.Appendf(nil, "%d", days), time.Now().AddDate(0, 0, -days)
		layer := image.Blob{
			Descriptor: convert.Describe(ocispec.MediaTypeImageLayerZstd, content), DiffID: digest.FromBytes(content),
			Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
		}
		desc, err := image.Push(t.Context(), dst(fmt.Sprint("day-", days)), []image.Blob{layer}, &checkpoints.Checkpoint{Format: checkpoints.Containerd, Name: "web", Checkpointed: taken}, nil)
		if err == nil {
			_, err = set.Push(t.Context(), dst("shop"), taken, []set.Container{{Name: "web", Image: desc}})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return repository
}

// What is gone is gone, also where the rest could not be deleted.
func TestPruneStopped(t *testing.T) {
	repository := checkpointed(t, 4, 4)
	code, out, said := lithify(t, "checkpoint", "prune", "-o", "json", "--keep", "2", "--delete", repository)
	if code == 0 || !strings.Contains(said, "DENIED") {
		t.Errorf("exit code %d, %q", code, said)
	}
	var plan struct{ Items []struct{ Deleted *bool } }
	if err := json.Unmarshal([]byte(out), &plan); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var deleted int
	for _, i := range plan.Items {
		if i.Deleted == nil {
			t.Fatalf("it does not say what was deleted: %s", out)
		} else if *i.Deleted {
			deleted++
		}
	}
	if deleted < 1 || deleted > 3 {
		t.Errorf("%d are called deleted, want some of the 4 that go: %s", deleted, out)
	}
	_, out, _ = lithify(t, "checkpoint", "prune", "--keep", "2", "--delete", repository)
	if !strings.Contains(out, "not deleted") {
		t.Errorf("got\n%s", out)
	}
}

func TestShowPassesOver(t *testing.T) {
	repository := checkpointed(t, 4, 1)
	shown := func() (generations []string) {
		for line := range strings.Lines(must(t, "checkpoint", "show", repository+":shop")) {
			generations = append(generations, line[:1])
		}
		return generations[1:]
	}
	if got := shown(); !slices.Equal(got, []string{"4", "3", "2", "1"}) {
		t.Fatalf("generations %q", got)
	}
	line := strings.Split(must(t, "checkpoint", "show", repository+":shop"), "\n")[2]
	repo, err := registry.Manage(repository, registry.Options{})
	if err == nil {
		err = repo.Delete(t.Context(), digest.Digest("sha256:"+strings.Fields(line[strings.Index(line, "sha256:")+len("sha256:"):])[0]))
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := shown(); !slices.Equal(got, []string{"4", "2", "1"}) {
		t.Errorf("without the third, generations %q", got)
	}
}

// The pool prunes now, or by a timetable.
func TestPrunePool(t *testing.T) {
	servePool(t)
	repository := checkpointed(t, 4, 1<<20)
	left := func() int {
		return strings.Count(must(t, "checkpoint", "prune", "--keep", "9", repository), "newest 9")
	}
	if got := must(t, "submit", "prune", "--wait", "--keep", "3", repository); got != "0 deleted of 2 that are kept for long enough, 6 stay\n" || left() != 8 {
		t.Errorf("a look: %q, %d left", got, left())
	}
	if got := must(t, "submit", "prune", "--wait", "--keep", "3", "--delete", repository); got != "2 deleted of 2 that are kept for long enough, 6 stay\n" || left() != 6 {
		t.Errorf("got %q, %d left", got, left())
	}
	must(t, "cron", "add", "prune", "old", "@daily", "--keep", "1", "--delete", repository)
	id := strings.TrimSpace(must(t, "cron", "run", "old"))
	if history := must(t, "jobs", "watch", id); strings.Count(history, "checkpoint deleted") != 4 || left() != 2 {
		t.Errorf("%d left, and the history says %s", left(), history)
	}
	for _, tc := range [][]string{
		{"submit", "prune", "--delete", repository}, {"submit", "prune", "--keep", "1", repository + ":tag"},
		{"cron", "add", "prune", "x", "@daily", "--keep", "-1", repository}, {"submit", "prune", "--keep", "1", "oci:here"},
	} {
		if code, _, said := lithify(t, tc...); code != 2 {
			t.Errorf("%v: exit code %d, %s", tc, code, said)
		}
	}
}
