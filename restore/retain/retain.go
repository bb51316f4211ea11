// Package retain removes checkpoints that are kept for long enough from a repository of a
// registry. They are memory: what is not there, nobody can read.
//
//	plan, err := retain.Look(ctx, repository, retain.Policy{Keep: 3, OlderThan: 30 * 24 * time.Hour})
//	err = plan.Delete(ctx, repository)
//
// It finds what a tag names, and of sets (package set) also those that the tag named before.
// A checkpoint whose tag has moved on has no name in the registry, which may remove it by
// itself. What lithify has not made is left alone.
package retain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/restore/image"
	"github.com/lithify/lithify/restore/set"
)

// Policy says what stays. One of the first two is required.
type Policy struct {
	Keep      int           // the newest of each container, or of each set's containers
	OlderThan time.Duration // whatever is younger stays
	Tags      []string      // what has a tag that one of these patterns matches (path.Match)
}

// Validate refuses a policy by which nothing would stay, or that cannot be read: an
// errdefs.ErrInvalidArgument.
func (p Policy) Validate() error {
	if p.Keep < 0 || p.OlderThan < 0 {
		return fmt.Errorf("a number is below zero: %w", errdefs.ErrInvalidArgument)
	}
	if p.Keep == 0 && p.OlderThan == 0 {
		return fmt.Errorf("it is not said what stays: how many, or how long: %w", errdefs.ErrInvalidArgument)
	}
	for _, pattern := range p.Tags {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("pattern %q: %w: %w", pattern, err, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// Item is a checkpoint, or a set of some.
type Item struct {
	Digest     digest.Digest `json:"digest"`
	Tags       []string      `json:"tags,omitempty"`
	Containers []string      `json:"containers"`
	Taken      time.Time     `json:"taken"`
	// Stays says why; "" is to be deleted, or was.
	Stays   string `json:"stays,omitempty"`
	Deleted bool   `json:"deleted"`

	members []digest.Digest // of a set
}

// Plan is what stays of a repository, and what does not.
type Plan struct {
	Repository string `json:"repository"`
	Items      []Item `json:"items"`  // by their containers, the newest first
	Others     int    `json:"others"` // tags of what is none of ours
}

// lookups is how many manifests are read at a time.
const lookups = 8

// Look makes a plan, and changes nothing.
func Look(ctx context.Context, repo *registry.Repository, p Policy) (*Plan, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	tags, err := repo.Tags(ctx)
	if err != nil {
		return nil, err
	}
	found := make([][]Item, len(tags))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(lookups)
	for i, tag := range tags {
		g.Go(func() (err error) { found[i], err = look(gctx, repo, tag); return err })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	plan := &Plan{Repository: repo.Repository()}
	for _, items := range found {
		if len(items) == 0 {
			plan.Others++
		}
		for _, item := range items {
			plan.add(item)
		}
	}
	plan.decide(p, time.Now())
	return plan, nil
}

// add puts tags of one checkpoint together.
func (p *Plan) add(item Item) {
	i := slices.IndexFunc(p.Items, func(o Item) bool { return o.Digest == item.Digest })
	if i < 0 {
		p.Items = append(p.Items, item)
		return
	}
	p.Items[i].Tags = append(p.Items[i].Tags, item.Tags...)
}

// look is what a tag names, if it is ours: and of a set also the sets before.
func look(ctx context.Context, repo *registry.Repository, tag string) (items []Item, err error) {
	src, err := repo.WithTag(tag)
	if err != nil {
		return nil, err
	}
	item, before, err := read(ctx, src)
	if item == nil || err != nil {
		return nil, err
	}
	item.Tags = []string{tag}
	items = append(items, *item)
	for seen := map[digest.Digest]bool{}; len(before) > 0 && len(seen) < maxBefore; {
		d := before[0]
		if before = before[1:]; seen[d] {
			continue
		}
		seen[d] = true
		src, err := repo.WithDigest(d)
		if err != nil {
			return nil, err
		}
		item, more, err := read(ctx, src)
		if err != nil {
			return nil, err
		}
		if item != nil { // else others know of those before it
			items, before = append(items, *item), append(before, more...)
		}
	}
	return items, nil
}

// maxBefore bounds how many sets a tag has named before. Older ones are not found.
const maxBefore = 1000

// read is nil for what is gone, or none of ours.
func read(ctx context.Context, src convert.Source) (_ *Item, before []digest.Digest, err error) {
	desc, err := src.Root(ctx)
	switch {
	case errors.Is(err, convert.ErrNotFound):
		return nil, nil, nil
	case err != nil:
		return nil, nil, err
	case images.IsIndexType(desc.MediaType):
		return readSet(ctx, src)
	case !images.IsManifestType(desc.MediaType):
		return nil, nil, nil
	}
	img, err := image.Open(ctx, src)
	if _, refused := errors.AsType[*convert.RefusedError](err); refused {
		return nil, nil, nil
	}
	if err != nil || !img.Ours {
		return nil, nil, err
	}
	return &Item{Digest: desc.Digest, Containers: []string{img.Checkpoint.Name}, Taken: img.Checkpoint.Checkpointed}, nil, nil
}

func readSet(ctx context.Context, src convert.Source) (*Item, []digest.Digest, error) {
	s, err := set.Open(ctx, src)
	if _, refused := errors.AsType[*convert.RefusedError](err); refused {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	item := &Item{Digest: s.Descriptor.Digest, Taken: s.Created}
	for _, c := range s.Containers {
		item.Containers = append(item.Containers, c.Name)
		item.members = append(item.members, c.Image.Digest)
	}
	slices.Sort(item.Containers)
	return item, s.Ancestors(), nil
}

// compare tells whether two are of the same: a container, or a set of containers, which may
// be one.
func (i Item) compare(o Item) int {
	return cmp.Or(slices.Compare(i.Containers, o.Containers), min(len(i.members), 1)-min(len(o.members), 1))
}

// decide says of each item whether it stays.
func (p *Plan) decide(policy Policy, now time.Time) {
	slices.SortFunc(p.Items, func(a, b Item) int {
		return cmp.Or(a.compare(b), b.Taken.Compare(a.Taken), cmp.Compare(a.Digest, b.Digest))
	})
	n := 0
	for i := range p.Items {
		item := &p.Items[i]
		if i > 0 && p.Items[i-1].compare(*item) != 0 {
			n = 0
		}
		future := item.Taken.After(now)
		if !future {
			n++
		}
		switch tag := policy.pins(item.Tags); {
		case tag != "":
			item.Stays = "tag " + tag
		case future: // by a clock that was wrong, or to have others deleted in its place
			item.Stays = "its date is in the future: does not count as one of the newest"
		case n <= policy.Keep:
			item.Stays = fmt.Sprintf("newest %d", policy.Keep)
		case policy.OlderThan > 0 && now.Sub(item.Taken) < policy.OlderThan:
			item.Stays = fmt.Sprintf("younger than %v", policy.OlderThan)
		}
	}
	for i := range p.Items {
		item := &p.Items[i]
		if item.Stays == "" && slices.ContainsFunc(p.Items, func(o Item) bool { return o.Stays != "" && slices.Contains(o.members, item.Digest) }) {
			item.Stays = "in a set that stays"
		}
	}
}

func (p Policy) pins(tags []string) string {
	for _, tag := range tags {
		if slices.ContainsFunc(p.Tags, func(pattern string) bool { ok, _ := path.Match(pattern, tag); return ok }) {
			return tag
		}
	}
	return ""
}

// Delete removes what does not stay, with what names it as its subject, and of a set the
// checkpoints of lithify's that no set and no tag that stays has. The oldest goes first, and a set
// after what is in it: what is left when this process dies a second plan finds, by what names it.
// The items say what was deleted, also after an error.
//
// Delete looks at each tag once more: one that names something else now is an
// errdefs.ErrConflict. Between that look and the deletion a tag that is moved to what is
// deleted is lost with it.
func (p *Plan) Delete(ctx context.Context, repo *registry.Repository) error {
	stays, gone := map[digest.Digest]bool{}, []*Item{}
	for i := range p.Items {
		item := &p.Items[i]
		if item.Stays == "" {
			gone = append(gone, item)
			continue
		}
		for _, d := range append(item.members, item.Digest) {
			stays[d] = true
		}
	}
	slices.SortStableFunc(gone, func(a, b *Item) int { return a.Taken.Compare(b.Taken) })
	for _, item := range gone {
		if err := item.remove(ctx, repo, stays); err != nil {
			return err
		}
		item.Deleted = true
	}
	return nil
}

func (i *Item) remove(ctx context.Context, repo *registry.Repository, stays map[digest.Digest]bool) error {
	if _, err := i.named(ctx, repo); err != nil {
		return err
	}
	for _, d := range i.members {
		if stays[d] {
			continue
		}
		// Whoever may push may put a set together of what is none of ours.
		if ours, err := isOurs(ctx, repo, d); err != nil {
			return err
		} else if !ours {
			continue
		}
		if err := remove(ctx, repo, d, stays); err != nil {
			return err
		}
	}
	if err := remove(ctx, repo, i.Digest, stays); err != nil {
		return err
	}
	left, err := i.named(ctx, repo)
	for _, tag := range left {
		err = errors.Join(err, repo.Untag(ctx, tag))
	}
	return err
}

// named are those of the tags that are still there. They name what they did.
func (i *Item) named(ctx context.Context, repo *registry.Repository) (tags []string, err error) {
	for _, tag := range i.Tags {
		t, err := repo.WithTag(tag)
		if err != nil {
			return nil, err
		}
		now, err := t.Head(ctx)
		if errors.Is(err, convert.ErrNotFound) {
			continue
		}
		if err == nil && now.Digest != i.Digest {
			err = fmt.Errorf("%s names %s now, and named %s; look again: %w", t.Name(), now.Digest, i.Digest, errdefs.ErrConflict)
		}
		if err != nil {
			return nil, err
		}
		tags = append(tags, tag)
	}
	return tags, nil
}

func isOurs(ctx context.Context, repo *registry.Repository, d digest.Digest) (bool, error) {
	src, err := repo.WithDigest(d)
	if err != nil {
		return false, err
	}
	item, _, err := read(ctx, src)
	return item != nil, err
}

// remove deletes what names a manifest as its subject, and then the manifest. Of a registry
// without the referrers API anybody may write the list, and anybody may move cosign's tags: what
// does not say itself that it is about the manifest stays.
func remove(ctx context.Context, repo *registry.Repository, d digest.Digest, stays map[digest.Digest]bool) error {
	listed, err := repo.Referrers(ctx, d)
	if err != nil && !errdefs.IsInvalidArgument(err) {
		return err
	}
	about := map[digest.Digest]bool{}
	for _, r := range listed {
		if about[r.Digest], err = isAbout(ctx, repo, r.Digest, d); err != nil {
			return err
		}
		if !about[r.Digest] || stays[r.Digest] {
			continue
		}
		if err := repo.Delete(ctx, r.Digest); err != nil {
			return err
		}
	}
	if err := removeList(ctx, repo, d, about); err != nil {
		return err
	}
	return repo.Delete(ctx, d)
}

// isAbout reports whether a manifest names d as its subject. One that is gone did.
func isAbout(ctx context.Context, repo *registry.Repository, manifest, d digest.Digest) (bool, error) {
	src, err := repo.WithDigest(manifest)
	if err != nil {
		return false, err
	}
	var m struct{ Subject *ocispec.Descriptor }
	desc, err := src.Root(ctx)
	if err == nil {
		_, err = convert.FetchDocument(ctx, src, desc, &m)
	}
	switch {
	case errors.Is(err, convert.ErrNotFound):
		return true, nil
	case errdefs.IsInvalidArgument(err): // it cannot be read, and says nothing
		return false, nil
	}
	return m.Subject != nil && m.Subject.Digest == d, err
}

// removeList deletes the list of a registry without the referrers API, if it is one: of what is
// about d, and of nothing else.
func removeList(ctx context.Context, repo *registry.Repository, d digest.Digest, about map[digest.Digest]bool) error {
	src, err := repo.WithTag(registry.FallbackTag(d))
	if err != nil {
		return err
	}
	var list ocispec.Index
	desc, err := src.Root(ctx)
	if err == nil && images.IsIndexType(desc.MediaType) {
		_, err = convert.FetchDocument(ctx, src, desc, &list)
	}
	if errors.Is(err, convert.ErrNotFound) || errdefs.IsInvalidArgument(err) {
		return nil
	}
	if err != nil || len(list.Manifests) == 0 || slices.ContainsFunc(list.Manifests, func(m ocispec.Descriptor) bool { return !about[m.Digest] }) {
		return err
	}
	return repo.Delete(ctx, desc.Digest)
}
