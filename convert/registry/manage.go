package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"

	"github.com/lithify/lithify/convert"
)

// Manage opens a repository to list and to delete what is in it. A ref with a tag or digest
// is an error: who gives one does not mean all of the repository.
func Manage(ref string, o Options) (*Repository, error) {
	p, err := parse(ref)
	if err != nil {
		return nil, err
	}
	if p.scheme != "" {
		return nil, invalid("%s is no repository of a registry", ref)
	}
	if _, err := name.NewRepository(p.path); err != nil {
		return nil, invalid("%s is no repository, without a tag or digest: %v", Redact(ref), err)
	}
	return newRepository(p.path, o, "pull,delete")
}

// Repository is the name without a tag, with its host.
func (r *Repository) Repository() string { return r.repo.Name() }

// WithDigest is one manifest of the same repository. It shares r's token.
func (r *Repository) WithDigest(d digest.Digest) (convert.Source, error) {
	if err := checkDigest(d); err != nil {
		return nil, err
	}
	ref, err := name.NewDigest(r.at(d))
	if err != nil {
		return nil, invalid("digest %q of %s: %v", d, r.repo, err)
	}
	return &Repository{ref: ref, opts: r.opts, client: r.client, root: newRoot()}, nil
}

// Tags lists the repository's tags, in the registry's order. One that is not there has none.
func (r *Repository) Tags(ctx context.Context) (tags []string, err error) {
	next := r.url("tags", "list")
	for range maxPages {
		page, link, err := r.tagsPage(ctx, next)
		if errors.Is(err, convert.ErrNotFound) && tags == nil {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list tags of %s: %w", r.repo, err)
		}
		tags = append(tags, page...)
		if link == nil {
			return tags, nil
		}
		next = link
	}
	return nil, fmt.Errorf("list tags of %s: more than %d pages: %w", r.repo, maxPages, errdefs.ErrOutOfRange)
}

func (r *Repository) tagsPage(ctx context.Context, u *url.URL) ([]string, *url.URL, error) {
	resp, err := r.do(ctx, request{method: http.MethodGet, url: u}, http.StatusOK)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	raw, err := readManifest(resp.Body)
	if err != nil {
		return nil, nil, r.failure(err)
	}
	var page struct{ Tags []string }
	if err := json.Unmarshal(raw, &page); err != nil {
		return nil, nil, invalid("the list of tags is no JSON: %v", err)
	}
	return page.Tags, nextPage(resp), nil
}

// Delete removes a manifest; with most registries its tags go, too. One that is not there is
// removed. Its blobs are the registry's to collect, with those that nothing else names. A
// registry that deletes nothing is an errdefs.ErrNotImplemented.
func (r *Repository) Delete(ctx context.Context, d digest.Digest) error {
	if err := checkDigest(d); err != nil {
		return err
	}
	return r.remove(ctx, d.String())
}

// Untag removes a tag, and leaves what it names. It is for registries that keep the tags of what
// is deleted; others may not know it.
func (r *Repository) Untag(ctx context.Context, tag string) error {
	if _, err := name.NewTag(r.repo.Name() + ":" + tag); err != nil {
		return invalid("tag %q of %s: %v", tag, r.repo, err)
	}
	return r.remove(ctx, tag)
}

func (r *Repository) remove(ctx context.Context, id string) error {
	resp, err := r.do(ctx, request{method: http.MethodDelete, url: r.url("manifests", id)}, http.StatusAccepted, http.StatusOK, http.StatusNoContent)
	switch {
	case errors.Is(err, convert.ErrNotFound):
		return nil
	case errdefs.IsNotImplemented(err):
		return fmt.Errorf("delete %s of %s: the registry does not let anybody delete (distribution: REGISTRY_STORAGE_DELETE_ENABLED=true): %w", id, r.repo, err)
	case err != nil:
		return fmt.Errorf("delete %s of %s: %w", id, r.repo, err)
	}
	return resp.Body.Close()
}
