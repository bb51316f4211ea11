package registry

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
)

// Repository is one tag or digest of a registry, to read from and, if it came
// from Create, to write to. It is safe for concurrent use and keeps nothing open.
type Repository struct {
	ref  name.Reference
	opts Options
	*client
	root root
}

var _ convert.Target = (*Repository)(nil)

func newRepository(ref string, o Options, actions string) (*Repository, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	r, err := parseRepository(ref, o.Insecure)
	if err != nil {
		return nil, err
	}
	return &Repository{ref: r, opts: o, client: newClient(r.Context(), actions, o), root: newRoot()}, nil
}

// Name is the reference in full: docker.io's short names are spelled out.
func (r *Repository) Name() string { return r.ref.Name() }

// WithTag is another tag of the same repository. It shares r's token.
func (r *Repository) WithTag(tag string) (convert.Target, error) {
	ref, err := name.NewTag(r.repo.Name() + ":" + tag)
	if err != nil {
		return nil, invalid("tag %q of %s: %v", tag, r.repo, err)
	}
	return &Repository{ref: ref, opts: r.opts, client: r.client, root: newRoot()}, nil
}

// at names content of this repository in an error.
func (r *Repository) at(d digest.Digest) string { return r.repo.Name() + "@" + d.String() }

// Root gets the manifest the reference names, once; Fetch then has its bytes.
func (r *Repository) Root(ctx context.Context) (ocispec.Descriptor, error) {
	desc, err := r.root.resolve(ctx, func() (ocispec.Descriptor, []byte, error) {
		return r.manifest(ctx, r.ref.Identifier())
	})
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("resolve %s: %w", r.ref, err)
	}
	return desc, nil
}

// manifest gets a manifest by tag or digest. The digest is computed from what
// came, whatever the registry's headers say.
func (r *Repository) manifest(ctx context.Context, id string) (ocispec.Descriptor, []byte, error) {
	for n := 0; ; n++ {
		resp, err := r.do(ctx, request{method: http.MethodGet, url: r.url("manifests", id), header: accept(manifestTypes...)}, http.StatusOK)
		if err != nil {
			return ocispec.Descriptor{}, nil, err
		}
		raw, err := readManifest(resp.Body)
		resp.Body.Close()
		if err == nil {
			return describe(id, resp.Header, raw)
		}
		if err := r.rest(ctx, n, r.failure(err)); err != nil {
			return ocispec.Descriptor{}, nil, err
		}
	}
}

// rest waits after attempt n ended with err, or gives the error to end with.
func (r *Repository) rest(ctx context.Context, n int, err error) error {
	if !worthRetry(err) {
		return err
	}
	var asked time.Duration
	if e, ok := errors.AsType[*Error](err); ok {
		asked = e.RetryAfter
	}
	wait, again := pause(n, asked, asked > 0)
	if !again {
		return err
	}
	return r.opts.sleep(ctx, wait)
}

func describe(id string, h http.Header, raw []byte) (ocispec.Descriptor, []byte, error) {
	algo := digest.Canonical
	want, err := digest.Parse(id)
	if err == nil {
		algo = want.Algorithm()
	}
	desc := ocispec.Descriptor{
		MediaType: mediaTypeOf(h.Get("Content-Type"), raw),
		Digest:    algo.FromBytes(raw),
		Size:      int64(len(raw)),
	}
	// A schema 1 manifest's digest leaves out its signatures; nobody reads on.
	schema1 := desc.MediaType == dockerSchema1 || desc.MediaType == dockerSchema1Jws
	if err == nil && desc.Digest != want && !schema1 {
		return ocispec.Descriptor{}, nil, fmt.Errorf("the registry sent %s: %w", desc.Digest, errdefs.ErrDataLoss)
	}
	return desc, raw, nil
}

// mediaTypeOf believes the header unless it says nothing, as static file servers'
// do; then the manifest's own word counts.
func mediaTypeOf(header string, raw []byte) string {
	mt, _, err := mime.ParseMediaType(header)
	if err == nil && mt != "application/json" && mt != "application/octet-stream" && !strings.HasPrefix(mt, "text/") {
		return mt
	}
	return cmp.Or(sniff(raw), mt)
}

// sniff tells a manifest's media type from its fields.
func sniff(raw []byte) string {
	var m struct {
		SchemaVersion int             `json:"schemaVersion"`
		MediaType     string          `json:"mediaType"`
		Manifests     json.RawMessage `json:"manifests"`
		Config        json.RawMessage `json:"config"`
	}
	if json.Unmarshal(raw, &m) != nil {
		return ""
	}
	switch {
	case m.MediaType != "":
		return m.MediaType
	case m.SchemaVersion == 1:
		return dockerSchema1Jws
	case m.Manifests != nil:
		return ocispec.MediaTypeImageIndex
	case m.Config != nil:
		return ocispec.MediaTypeImageManifest
	}
	return ""
}

func accept(types ...string) http.Header {
	return http.Header{"Accept": {strings.Join(types, ", ")}}
}

// Fetch opens a manifest or a blob, as desc's media type says. A blob whose
// connection breaks is gone on with from where it broke.
func (r *Repository) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if err := checkDigest(desc.Digest); err != nil {
		return nil, err
	}
	if !isManifest(desc.MediaType) {
		rc, err := r.blob(ctx, desc, 0, desc.Size+1)
		if err != nil {
			return nil, fmt.Errorf("fetch %s: %w", r.at(desc.Digest), err)
		}
		return rc, nil
	}
	raw := r.root.bytes(desc.Digest)
	if raw == nil {
		var err error
		if _, raw, err = r.manifest(ctx, desc.Digest.String()); err != nil {
			return nil, fmt.Errorf("fetch %s: %w", r.at(desc.Digest), err)
		}
	}
	return bounded(io.NopCloser(bytes.NewReader(raw)), desc), nil
}

// Has asks with HEAD, each time.
func (r *Repository) Has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if err := checkDigest(desc.Digest); err != nil {
		return false, err
	}
	req := request{method: http.MethodHead, url: r.url("blobs", desc.Digest.String())}
	if isManifest(desc.MediaType) {
		req.url, req.header = r.url("manifests", desc.Digest.String()), accept(manifestTypes...)
	}
	resp, err := r.do(ctx, req, http.StatusOK)
	if errors.Is(err, convert.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", r.at(desc.Digest), err)
	}
	return true, resp.Body.Close()
}

// Head asks what the tag names now.
func (r *Repository) Head(ctx context.Context) (ocispec.Descriptor, error) {
	desc, _, err := r.head(ctx, r.ref.Identifier())
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("look up %s: %w", r.ref, err)
	}
	return desc, nil
}

// head gives the descriptor and the entity tag to send with a condition.
func (r *Repository) head(ctx context.Context, id string) (ocispec.Descriptor, string, error) {
	resp, err := r.do(ctx, request{method: http.MethodHead, url: r.url("manifests", id), header: accept(manifestTypes...)}, http.StatusOK)
	if err != nil {
		return ocispec.Descriptor{}, "", err
	}
	resp.Body.Close()
	etag := strings.TrimPrefix(resp.Header.Get("ETag"), "W/")
	d, err := digest.Parse(resp.Header.Get("Docker-Content-Digest"))
	if err != nil || resp.ContentLength < 0 {
		desc, _, err := r.manifest(ctx, id) // a registry that does not tell
		return desc, etag, err
	}
	return ocispec.Descriptor{MediaType: mediaTypeOf(resp.Header.Get("Content-Type"), nil), Digest: d, Size: resp.ContentLength}, etag, nil
}
