package convert

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of the ledger's artifacts: a manifest of MediaTypeLedger whose
// config is a signed record and whose one layer is the converted blob, under the
// tag that [Ledger] derives from the layer key.
const (
	MediaTypeLedger = "application/vnd.lithify.ledger.v1+json"
	mediaTypeRecord = "application/vnd.lithify.layer-record.v1+json"
)

// Ledger finds layers that have been converted before. It is one repository of
// the destination registry with an artifact for each layer key: the artifact
// finds the blob by key, keeps it from the registry's garbage collector, and is
// where it is mounted from.
//
// A record counts only if one of Trusted has signed it. A nil Ledger finds and
// keeps nothing.
type Ledger struct {
	// Open gives the ledger repository's artifact of a tag.
	Open func(tag string) (Target, error)
	// Key signs the records made here; with none, nothing is entered.
	Key ed25519.PrivateKey
	// Trusted are the keys whose records are believed.
	Trusted []ed25519.PublicKey
}

// record is the signed statement that Job gives Layer, or CIM, and that all of the source
// blob was read from the registries Seen.
type record struct {
	Job   LayerJob     `json:"job"`
	Layer *erofs.Layer `json:"layer,omitempty"`
	CIM   *CIMLayer    `json:"cim,omitempty"`
	Seen  []string     `json:"seen,omitempty"`
	// Verified is of a Layer that has been compared with the tar.
	Verified *Verified `json:"verified,omitempty"`
}

// blobs are what the artifact keeps, the layer first.
func (r *record) blobs() []ocispec.Descriptor {
	if r.CIM != nil {
		if r.Job.Profile == ProfileMergedCIM {
			return []ocispec.Descriptor{r.CIM.Blob}
		}
		return []ocispec.Descriptor{r.CIM.Blob, r.CIM.Hives}
	}
	return []ocispec.Descriptor{{MediaType: erofs.DialectSpec.MediaType(r.Layer.Profile), Digest: r.Layer.Digest, Size: r.Layer.Size}}
}

// fits reports whether the record is of what its job's profile makes.
func (r *record) fits() bool {
	switch r.Job.Profile {
	case ProfileBlockCIM:
		return r.CIM != nil && r.CIM.Block != nil && r.CIM.Layer != nil
	case ProfileMergedCIM:
		return r.CIM != nil && r.CIM.Block != nil
	}
	return r.Layer != nil
}

// maxSeen bounds a record. More registries than this have to send the blob each time.
const maxSeen = 64

// envelope carries a record as bytes, because a signature is over bytes.
type envelope struct {
	Record    []byte `json:"record"`
	Signature []byte `json:"signature"`
}

// signed sets the record's signatures apart from any other use of the key.
func signed(raw []byte) []byte { return append([]byte(mediaTypeRecord+"\n"), raw...) }

func ledgerTag(key digest.Digest) string { return "layer-" + key.Encoded() }

// get finds the record of a job's key and where its blob can be mounted from. It gives nil
// where there is none to be believed.
func (l *Ledger) get(ctx context.Context, key digest.Digest) (*record, Target, error) {
	if l == nil {
		return nil, nil, nil
	}
	repo, err := l.Open(ledgerTag(key))
	if err != nil {
		return nil, nil, err
	}
	desc, err := repo.Head(ctx)
	if errors.Is(err, ErrNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	r, err := l.read(ctx, repo, desc, key)
	return r, repo, err
}

func (l *Ledger) read(ctx context.Context, repo Target, desc ocispec.Descriptor, key digest.Digest) (*record, error) {
	raw, err := fetchAll(ctx, repo, desc)
	if err != nil {
		return nil, err
	}
	var m ocispec.Manifest
	if err := decode(raw, desc, &m); err != nil {
		return nil, err
	}
	if raw, err = fetchAll(ctx, repo, m.Config); err != nil {
		return nil, err
	}
	var env envelope
	if err := decode(raw, m.Config, &env); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(l.Trusted, func(k ed25519.PublicKey) bool { return ed25519.Verify(k, signed(env.Record), env.Signature) }) {
		return nil, nil
	}
	var r record
	if err := decode(env.Record, m.Config, &r); err != nil {
		return nil, err
	}
	if r.Job.Key() != key || !r.fits() {
		return nil, refused(m.Config.Digest, "the ledger's record is of another layer than its tag says")
	}
	return &r, nil
}

// put enters a layer whose blob lies in dst.
func (l *Ledger) put(ctx context.Context, dst Target, r record, meter func(io.Reader) io.Reader) error {
	if l == nil || l.Key == nil {
		return nil
	}
	repo, err := l.Open(ledgerTag(r.Job.Key()))
	if err != nil {
		return err
	}
	raw, err := encode(r)
	if err != nil {
		return err
	}
	raw, err = encode(envelope{raw, ed25519.Sign(l.Key, signed(raw))})
	if err != nil {
		return err
	}
	config := Describe(mediaTypeRecord, raw)
	if err := PushDocument(ctx, repo, config, raw); err != nil {
		return err
	}
	for _, blob := range r.blobs() {
		if err := transfer(ctx, dst, repo, blob, meter); err != nil {
			return err
		}
	}
	return l.enter(ctx, repo, config, r.blobs())
}

func (l *Ledger) enter(ctx context.Context, repo Target, config ocispec.Descriptor, blobs []ocispec.Descriptor) error {
	raw, err := encode(ocispec.Manifest{
		Versioned:    schemaVersion,
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: MediaTypeLedger,
		Config:       config,
		Layers:       blobs,
	})
	if err != nil {
		return err
	}
	was := digest.Digest("")
	switch desc, err := repo.Head(ctx); {
	case err == nil:
		was = desc.Digest
	case !errors.Is(err, ErrNotFound):
		return err
	}
	desc := Describe(ocispec.MediaTypeImageManifest, raw)
	if err := repo.PutManifest(ctx, desc, raw); err != nil {
		return err
	}
	if err := repo.Tag(ctx, desc, raw, was); err != nil && !errors.Is(err, ErrTagMoved) {
		return err // whoever else entered it entered the same bytes
	}
	return nil
}

// reuse finds the task's layer in the ledger and brings its blob to the target.
// It gives nil where the layer has to be converted.
//
// The job must have the source blob first, by its own credentials: else whoever
// knows a digest could have its content.
func (c *conversion) reuse(ctx context.Context, t task) (*layer, error) {
	began := time.Now()
	r, repo, err := c.lookIn(ctx, t)
	if r == nil || err != nil {
		return nil, err
	}
	if r.Verified == nil && c.opts.Verify.full() {
		c.log.InfoContext(ctx, "ledger's layer was never verified", "layer", t.desc.Digest)
		return nil, nil
	}
	made := r.Layer
	if err := transfer(ctx, repo, c.dst, c.blobOf(made), c.copying(t, made.Size)); err != nil {
		c.log.WarnContext(ctx, "ledger's blob not usable", "layer", t.desc.Digest, "err", err)
		return nil, nil
	}
	blob := c.blobOf(made)
	c.event(Event{Layer: t.desc.Digest, Phase: "reused", Done: t.desc.Size, Total: t.desc.Size, Took: time.Since(began), Result: &blob})
	return &layer{Layer: made, view: c.viewOf(t, made), proven: r.Verified}, nil
}

// lookIn finds the task's record in the ledger, if this job may have what it is of, and
// where that is. It gives nil where there is none.
func (c *conversion) lookIn(ctx context.Context, t task) (*record, Target, error) {
	if c.opts.Ledger == nil {
		return nil, nil, nil
	}
	has, err := c.src.Has(ctx, t.desc)
	if err != nil {
		return nil, nil, err
	}
	if !has {
		return nil, nil, fmt.Errorf("%s: %w", c.src.Name(), ErrNotFound)
	}
	r, repo, err := c.opts.Ledger.get(ctx, t.Key())
	if err != nil {
		c.log.WarnContext(ctx, "ledger not read", "layer", t.desc.Digest, "err", err)
		return nil, nil, nil
	}
	if r == nil {
		return nil, nil, nil
	}
	return r, repo, c.prove(ctx, t, *r, repo)
}

// prove makes sure that the source has the task's blob. The word of its registry is
// enough if that had the blob before, or has what was made of it: then a lie gives
// away nothing. Any other has to send the blob, once; files are read each time.
func (c *conversion) prove(ctx context.Context, t task, r record, ledger Target) error {
	if h, ok := c.src.(holder); ok {
		if held, err := h.Holds(ctx, t.desc); held || err != nil {
			return err
		}
	}
	from := RegistryOf(c.src.Name())
	if from != "" && (from == RegistryOf(ledger.Name()) || slices.Contains(r.Seen, from)) {
		return nil
	}
	blob, err := c.open(ctx, t)
	if err != nil {
		return err
	}
	defer blob.Close()
	if err := blob.drain(); err != nil || from == "" || len(r.Seen) == maxSeen {
		return err
	}
	r.Seen = append(slices.Clone(r.Seen), from)
	if err := c.opts.Ledger.put(ctx, ledger, r, c.copying(t, r.blobs()[0].Size)); err != nil {
		c.log.WarnContext(ctx, "layer's registry not entered in the ledger", "layer", t.desc.Digest, "err", err)
	}
	return nil
}

// holder is a Source that may have content under its own hand, and not by a registry's
// word: a containerd that has pulled it.
type holder interface {
	Holds(ctx context.Context, desc ocispec.Descriptor) (bool, error)
}

// RegistryOf is the registry in a source's name; empty for files.
func RegistryOf(name string) string {
	host, _, _ := strings.Cut(name, "/")
	switch scheme, _, _ := strings.Cut(host, ":"); scheme {
	case "oci", "oci-archive", "docker-archive", "container":
		return ""
	}
	return host
}

// copying meters a converted layer's way between the ledger and the target, where
// it cannot be mounted.
func (c *conversion) copying(t task, size int64) func(io.Reader) io.Reader {
	return func(r io.Reader) io.Reader {
		return c.metered(r, Event{Layer: t.desc.Digest, Phase: "copy", Total: size})
	}
}

// transfer makes dst hold the blob that src holds: already there, mounted, or
// copied, in this order.
func transfer(ctx context.Context, src Source, dst Target, desc ocispec.Descriptor, meter func(io.Reader) io.Reader) error {
	if has, err := dst.Has(ctx, desc); has || err != nil {
		return err
	}
	if mounted, err := dst.Mount(ctx, desc, src); mounted || err != nil {
		return err
	}
	return dst.Push(ctx, desc, func() (io.ReadCloser, error) {
		c, err := fetch(ctx, src, desc)
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{meter(c), c}, nil
	})
}

// PushDocument pushes a document as a blob, unless dst has it.
func PushDocument(ctx context.Context, dst Target, desc ocispec.Descriptor, raw []byte) error {
	if has, err := dst.Has(ctx, desc); has || err != nil {
		return err
	}
	return dst.Push(ctx, desc, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil })
}
