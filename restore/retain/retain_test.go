package retain_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
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

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/restore/archive"
	"github.com/lithify/lithify/restore/image"
	"github.com/lithify/lithify/restore/retain"
	"github.com/lithify/lithify/restore/set"
)

// kept is a repository of a registry with checkpoints, whose layers are no archives: nobody
// looks into them.
type kept struct {
	t    *testing.T
	name string
	repo *registry.Repository
}

func newKept(t *testing.T, wrap func(http.Handler) http.Handler) *kept {
	srv := httptest.NewServer(wrap(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)), ggcr.WithReferrersSupport(true))))
	t.Cleanup(srv.Close)
	name := strings.TrimPrefix(srv.URL, "http://") + "/web"
	repo, err := registry.Manage(name, registry.Options{Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	return &kept{t, name, repo}
}

func plainly(h http.Handler) http.Handler { return h }

func (k *kept) target(tag string) convert.Target {
	k.t.Helper()
	dst, err := registry.Create(k.name+":"+tag, registry.Options{Insecure: true})
	if err != nil {
		k.t.Fatal(err)
	}
	return dst
}

// checkpoint pushes one that is days old, signed.
func (k *kept) checkpoint(tag, container string, days int) ocispec.Descriptor {
	k.t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		k.t.Fatal(err)
	}
	content := []byte(fmt.Sprint(container, days))
	layer := image.Blob{
		Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerZstd, Digest: digest.FromBytes(content), Size: int64(len(content))},
		DiffID:     digest.FromBytes(content),
		Open:       func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
	}
	cp := &archive.Checkpoint{Format: archive.Containerd, Name: container, Checkpointed: time.Now().Add(-time.Duration(days) * 24 * time.Hour)}
	desc, err := image.Push(k.t.Context(), k.target(tag), []image.Blob{layer}, cp, key)
	if err != nil {
		k.t.Fatal(err)
	}
	return desc
}

func (k *kept) set(tag string, days int, images map[string]ocispec.Descriptor) {
	k.t.Helper()
	var all []set.Container
	for name, d := range images {
		all = append(all, set.Container{Name: name, Image: d})
	}
	if _, err := set.Push(k.t.Context(), k.target(tag), time.Now().Add(-time.Duration(days)*24*time.Hour), all); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kept) look(p retain.Policy) (*retain.Plan, []string) {
	k.t.Helper()
	plan, err := retain.Look(k.t.Context(), k.repo, p)
	if err != nil {
		k.t.Fatal(err)
	}
	var said []string
	for _, i := range plan.Items {
		slices.Sort(i.Tags)
		said = append(said, fmt.Sprintf("%s %s: %s", strings.Join(i.Containers, "+"), strings.Join(i.Tags, ","), i.Stays))
	}
	return plan, said
}

func (k *kept) tags() []string {
	k.t.Helper()
	tags, err := k.repo.Tags(k.t.Context())
	if err != nil {
		k.t.Fatal(err)
	}
	slices.Sort(tags)
	return tags
}

func TestPlan(t *testing.T) {
	k := newKept(t, plainly)
	for days := range 5 {
		k.checkpoint(fmt.Sprint("day-", days), "web", days)
	}
	k.checkpoint("keep-me", "web", 9)
	k.checkpoint("db", "db", 40)
	k.foreign("other")
	for name, tc := range map[string]struct {
		policy retain.Policy
		want   []string
	}{
		"newest": {retain.Policy{Keep: 2}, []string{
			"db db: newest 2", "web day-0: newest 2", "web day-1: newest 2", "web day-2: ", "web day-3: ", "web day-4: ", "web keep-me: "}},
		"younger": {retain.Policy{OlderThan: 84 * time.Hour, Tags: []string{"keep-*"}}, []string{
			"db db: ", "web day-0: younger than 84h0m0s", "web day-1: younger than 84h0m0s", "web day-2: younger than 84h0m0s", "web day-3: younger than 84h0m0s", "web day-4: ", "web keep-me: tag keep-me"}},
		"both": {retain.Policy{Keep: 1, OlderThan: 36 * time.Hour}, []string{
			"db db: newest 1", "web day-0: newest 1", "web day-1: younger than 36h0m0s", "web day-2: ", "web day-3: ", "web day-4: ", "web keep-me: "}},
	} {
		plan, got := k.look(tc.policy)
		if diff := cmp.Diff(tc.want, got); diff != "" || plan.Others != 1 {
			t.Errorf("%s: %d others (-want +got):\n%s", name, plan.Others, diff)
		}
	}
	for _, p := range []retain.Policy{{}, {Keep: -1}, {Keep: 1, OlderThan: -1}, {Keep: 1, Tags: []string{"["}}} {
		if _, err := retain.Look(t.Context(), k.repo, p); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%+v: got %v, want an invalid argument", p, err)
		}
	}
}

// foreign pushes what another has made.
func (k *kept) foreign(tag string) {
	k.t.Helper()
	k.put(tag, ocispec.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"mediaType":"`+ocispec.MediaTypeImageIndex+`","manifests":[]}`))
}

// image pushes one that is no checkpoint.
func (k *kept) image(tag string) ocispec.Descriptor {
	k.t.Helper()
	raw := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":{},"layers":[]}`)
	return k.put(tag, ocispec.MediaTypeImageManifest, raw)
}

// put has a tag name a manifest, whatever it named before.
func (k *kept) put(tag, mediaType string, raw []byte) ocispec.Descriptor {
	k.t.Helper()
	if err := k.repo.Untag(k.t.Context(), tag); err != nil {
		k.t.Fatal(err)
	}
	dst := k.target(tag)
	desc := convert.Describe(mediaType, raw)
	if err := dst.PutManifest(k.t.Context(), desc, raw); err != nil {
		k.t.Fatal(err)
	}
	if err := dst.Tag(k.t.Context(), desc, raw, ""); err != nil {
		k.t.Fatal(err)
	}
	return desc
}

func TestDelete(t *testing.T) {
	k := newKept(t, plainly)
	old := k.checkpoint("old", "web", 3)
	k.checkpoint("new", "web", 1)
	k.foreign("other")
	about, err := k.repo.Referrers(t.Context(), old.Digest)
	if err != nil || len(about) != 1 {
		t.Fatalf("the signature: %v, %v", about, err)
	}
	plan, _ := k.look(retain.Policy{Keep: 1})
	deleted := func(plan *retain.Plan) (tags []string) {
		for _, i := range plan.Items {
			if i.Deleted {
				tags = append(tags, i.Tags...)
			}
		}
		return tags
	}
	if got := deleted(plan); len(got) > 0 {
		t.Errorf("called deleted: %q", got)
	}
	if diff := cmp.Diff([]string{"new", "old", "other"}, k.tags()); diff != "" {
		t.Errorf("a look has changed something (-want +got):\n%s", diff)
	}
	for range 2 { // the second finds nothing to do
		if err := plan.Delete(t.Context(), k.repo); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"new", "other"}, k.tags()); diff != "" {
			t.Errorf("tags (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"old"}, deleted(plan)); diff != "" {
			t.Errorf("called deleted (-want +got):\n%s", diff)
		}
	}
	for name, d := range map[string]ocispec.Descriptor{"checkpoint": old, "signature": about[0]} {
		if has, err := k.repo.Has(t.Context(), d); has || err != nil {
			t.Errorf("the %s is there: %v, %v", name, has, err)
		}
	}
}

// A set goes with its checkpoints, but for those that something else has that stays.
func TestDeleteSets(t *testing.T) {
	k := newKept(t, plainly)
	images := map[string]ocispec.Descriptor{}
	for _, name := range []string{"a1", "b1", "a2", "b2"} {
		images[name] = k.checkpoint(name, name, 5)
	}
	k.set("shop", 5, map[string]ocispec.Descriptor{"a": images["a1"], "b": images["b1"]})
	k.set("shop", 4, map[string]ocispec.Descriptor{"a": images["a2"], "b": images["b1"]})
	k.set("shop", 3, map[string]ocispec.Descriptor{"a": images["a2"], "b": images["b2"]})
	plan, got := k.look(retain.Policy{Keep: 2, OlderThan: time.Hour})
	if n := len(slices.DeleteFunc(got, func(s string) bool { return !strings.HasPrefix(s, "a+b ") })); n != 3 {
		t.Fatalf("%d sets of 3: %q", n, got)
	}
	// Without a tag of their own the checkpoints are their sets' alone.
	for i := range plan.Items {
		if len(plan.Items[i].Containers) == 1 {
			plan.Items[i].Stays = ""
		}
	}
	plan.Items = slices.DeleteFunc(plan.Items, func(i retain.Item) bool { return len(i.Containers) == 1 })
	if err := plan.Delete(t.Context(), k.repo); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"a1": false, "b1": true, "a2": true, "b2": true} {
		if has, err := k.repo.Has(t.Context(), images[name]); has != want || err != nil {
			t.Errorf("%s: %v, %v; want %v", name, has, err, want)
		}
	}
}

// A set between two others may be gone, by hand or by a policy that counts it among others.
func TestGap(t *testing.T) {
	k := newKept(t, plainly)
	images := map[string]ocispec.Descriptor{"a": k.checkpoint("a", "a", 5)}
	k.set("shop", 5, images)
	k.set("shop", 4, images)
	middle, err := k.target("shop").Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	k.set("shop", 3, images)
	if err := k.repo.Delete(t.Context(), middle.Digest); err != nil {
		t.Fatal(err)
	}
	k.set("shop", 2, images)
	plan, got := k.look(retain.Policy{OlderThan: time.Hour})
	if len(plan.Items) != 4 { // the checkpoint, by its own tag
		t.Errorf("%d found of three sets and a checkpoint: %q", len(plan.Items), got)
	}
	// A set of one container is none of this container's checkpoints.
	want := []string{"a a: newest 1", "a shop: newest 1", "a : ", "a : "}
	if _, got := k.look(retain.Policy{Keep: 1}); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Who dates a checkpoint into the future has no other deleted by that.
func TestFuture(t *testing.T) {
	k := newKept(t, plainly)
	k.checkpoint("future", "web", -30)
	k.checkpoint("soon", "web", -1)
	k.checkpoint("new", "web", 1)
	k.checkpoint("old", "web", 2)
	const future = "its date is in the future: does not count as one of the newest"
	want := []string{"web future: " + future, "web soon: " + future, "web new: newest 1", "web old: "}
	if _, got := k.look(retain.Policy{Keep: 1}); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What has been moved since is nobody's to delete.
func TestDeleteMoved(t *testing.T) {
	k := newKept(t, plainly)
	k.checkpoint("new", "web", 1)
	k.checkpoint("old", "web", 3)
	plan, _ := k.look(retain.Policy{Keep: 1})
	now := k.checkpoint("old", "web", 0)
	if err := plan.Delete(t.Context(), k.repo); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("got %v, want a conflict", err)
	}
	if has, err := k.repo.Has(t.Context(), now); !has || err != nil {
		t.Errorf("what the tag names now is gone: %v", err)
	}
}

func TestDeleteRefused(t *testing.T) {
	k := newKept(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodDelete {
				http.Error(w, `{"errors":[{"code":"UNSUPPORTED","message":"The operation is unsupported."}]}`, http.StatusMethodNotAllowed)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	k.checkpoint("new", "web", 1)
	k.checkpoint("old", "web", 3)
	plan, _ := k.look(retain.Policy{Keep: 1})
	err := plan.Delete(context.Background(), k.repo)
	if !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), "REGISTRY_STORAGE_DELETE_ENABLED") {
		t.Errorf("got %v", err)
	}
}

// A set may name what is none of ours, and a registry without the referrers API has a list
// that anybody may write.
func TestDeleteOthers(t *testing.T) {
	k := newKept(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/referrers/") {
				http.NotFound(w, r)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	newest := k.checkpoint("new", "web", 1)
	old, older, oldest := k.checkpoint("old", "web", 30), k.checkpoint("older", "web", 31), k.checkpoint("oldest", "web", 32)
	app := k.image("app")
	signatures, err := k.repo.Referrers(t.Context(), newest.Digest)
	if err != nil || len(signatures) != 1 {
		t.Fatalf("signatures of the newest: %v, %v", signatures, err)
	}
	k.set("trap", 30, map[string]ocispec.Descriptor{"app": app})
	raw, err := json.Marshal(ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{newest, app, signatures[0]}})
	if err != nil {
		t.Fatal(err)
	}
	list := k.put(registry.FallbackTag(old.Digest), ocispec.MediaTypeImageIndex, raw)
	k.image(registry.FallbackTag(old.Digest) + ".sig")
	k.image(registry.FallbackTag(older.Digest))
	k.put(registry.FallbackTag(oldest.Digest), ocispec.MediaTypeImageIndex, fmt.Appendf(nil, `{"mediaType":%q,"manifests":[{"digest":%q,"size":-1}]}`, ocispec.MediaTypeImageIndex, app.Digest)) // no list at all

	plan, _ := k.look(retain.Policy{OlderThan: 48 * time.Hour})
	if err := plan.Delete(t.Context(), k.repo); err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]ocispec.Descriptor{"an image": app, "the newest": newest, "its signature": signatures[0], "a list that is none": list} {
		if has, err := k.repo.Has(t.Context(), d); !has || err != nil {
			t.Errorf("%s is gone: %v", name, err)
		}
	}
	for _, d := range []ocispec.Descriptor{old, older, oldest} {
		if has, err := k.repo.Has(t.Context(), d); has || err != nil {
			t.Errorf("an old checkpoint is there: %v, %v", has, err)
		}
	}
}

// Wherever a deletion stops, the next one finds what is left.
func TestDeleteResumed(t *testing.T) {
	for left := int64(0); ; left++ {
		var deletions atomic.Int64
		deletions.Store(1 << 20)
		k := newKept(t, func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodDelete && deletions.Add(-1) < 0 {
					http.Error(w, `{"errors":[{"code":"DENIED"}]}`, http.StatusForbidden)
					return
				}
				h.ServeHTTP(w, r)
			})
		})
		var old []ocispec.Descriptor
		for days := 4; days > 0; days-- {
			one := k.checkpoint("one", "one", days)
			if err := k.repo.Untag(t.Context(), "one"); err != nil {
				t.Fatal(err)
			}
			k.set("shop", days, map[string]ocispec.Descriptor{"one": one})
			old = append(old, one)
		}
		old = old[:len(old)-1]
		plan, _ := k.look(retain.Policy{Keep: 1})
		deletions.Store(left)
		stopped := plan.Delete(t.Context(), k.repo)
		deletions.Store(1 << 20)
		for _, i := range plan.Items {
			has, err := k.repo.Has(t.Context(), ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: i.Digest})
			if err != nil || i.Deleted && has {
				t.Errorf("after %d deletions %s is called deleted and there: %v", left, i.Digest, err)
			}
			if stopped == nil && i.Deleted == (i.Stays != "") {
				t.Errorf("after all of them: %+v", i)
			}
		}
		plan, _ = k.look(retain.Policy{Keep: 1})
		if err := plan.Delete(t.Context(), k.repo); err != nil {
			t.Fatal(err)
		}
		for i, d := range old {
			if has, err := k.repo.Has(t.Context(), d); has || err != nil {
				t.Errorf("after %d deletions, one that was resumed leaves checkpoint %d of 3: %v, %v", left, i+1, has, err)
			}
		}
		if stopped == nil {
			return
		}
	}
}
