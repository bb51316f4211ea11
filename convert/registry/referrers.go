package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
)

// maxPages ends a registry that pages for ever.
const maxPages = 100

// cosignSuffixes are the tags cosign makes beside the referrers API.
var cosignSuffixes = []string{".sig", ".att", ".sbom"}

// Referrers lists what names dgst as its subject, by the referrers API or its
// tag fallback, and what cosign's tags name.
func (r *Repository) Referrers(ctx context.Context, dgst digest.Digest) ([]ocispec.Descriptor, error) {
	if err := checkDigest(dgst); err != nil {
		return nil, err
	}
	found, err := r.referrers(ctx, dgst)
	if err != nil {
		return nil, fmt.Errorf("list referrers of %s: %w", r.at(dgst), err)
	}
	for _, suffix := range cosignSuffixes {
		desc, _, err := r.head(ctx, FallbackTag(dgst)+suffix)
		if errors.Is(err, convert.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look up %s:%s: %w", r.repo, FallbackTag(dgst)+suffix, err)
		}
		found = append(found, desc)
	}
	return unique(found), nil
}

// FallbackTag is where the distribution spec keeps referrers without the API,
// and what cosign's tags begin with.
func FallbackTag(d digest.Digest) string { return d.Algorithm().String() + "-" + d.Encoded() }

func unique(descs []ocispec.Descriptor) []ocispec.Descriptor {
	seen := map[digest.Digest]bool{}
	var out []ocispec.Descriptor
	for _, d := range descs {
		if !seen[d.Digest] {
			seen[d.Digest] = true
			out = append(out, d)
		}
	}
	return out
}

func (r *Repository) referrers(ctx context.Context, dgst digest.Digest) ([]ocispec.Descriptor, error) {
	var found []ocispec.Descriptor
	next := r.url("referrers", dgst.String())
	for range maxPages {
		page, link, err := r.referrersPage(ctx, next)
		if noAPI(err) {
			return r.fallbackReferrers(ctx, dgst)
		}
		if err != nil {
			return nil, err
		}
		found = append(found, page...)
		if link == nil {
			return found, nil
		}
		next = link
	}
	return nil, fmt.Errorf("more than %d pages: %w", maxPages, errdefs.ErrOutOfRange)
}

var errNoAPI = errors.New("no referrers API")

// noAPI knows how registries say that they have none: 404 as the spec asks, 400
// and 405 by older ones, or a page that is no index.
func noAPI(err error) bool {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status == http.StatusNotFound || e.Status == http.StatusBadRequest ||
			e.Status == http.StatusMethodNotAllowed || e.Status == http.StatusNotAcceptable
	}
	return errors.Is(err, errNoAPI)
}

func (r *Repository) referrersPage(ctx context.Context, u *url.URL) ([]ocispec.Descriptor, *url.URL, error) {
	resp, err := r.do(ctx, request{method: http.MethodGet, url: u, header: accept(ocispec.MediaTypeImageIndex)}, http.StatusOK)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), ocispec.MediaTypeImageIndex) {
		return nil, nil, errNoAPI
	}
	raw, err := readManifest(resp.Body)
	if err != nil {
		return nil, nil, r.failure(err)
	}
	index, err := parseIndex(raw)
	return index.Manifests, nextPage(resp), err
}

var relNext = regexp.MustCompile(`<([^>]+)>;\s*rel="?next"?`)

func nextPage(resp *http.Response) *url.URL {
	m := relNext.FindStringSubmatch(resp.Header.Get("Link"))
	if m == nil {
		return nil
	}
	u, err := resp.Request.URL.Parse(m[1])
	if err != nil || u.Host != resp.Request.URL.Host {
		return nil
	}
	u.Scheme = resp.Request.URL.Scheme
	return u
}

func (r *Repository) fallbackReferrers(ctx context.Context, dgst digest.Digest) ([]ocispec.Descriptor, error) {
	desc, raw, err := r.manifest(ctx, FallbackTag(dgst))
	if errors.Is(err, convert.ErrNotFound) {
		return nil, nil
	}
	if err != nil || desc.MediaType != ocispec.MediaTypeImageIndex {
		return nil, err
	}
	index, err := parseIndex(raw)
	return index.Manifests, err
}

// parseIndex reads an index and refuses entries whose digest is none: they become
// paths and URLs.
func parseIndex(raw []byte) (ocispec.Index, error) {
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return ocispec.Index{}, invalid("parse index: %v", err)
	}
	for _, d := range index.Manifests {
		if err := checkEntry(d); err != nil {
			return ocispec.Index{}, err
		}
	}
	return index, nil
}

func checkEntry(d ocispec.Descriptor) error {
	if err := checkDigest(d.Digest); err != nil {
		return fmt.Errorf("parse index: %w", err)
	}
	if d.Size < 0 {
		return invalid("parse index: size %d of %s", d.Size, d.Digest)
	}
	return nil
}
