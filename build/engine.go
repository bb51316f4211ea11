package build

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"golang.org/x/sync/errgroup"
)

var tracer = otel.Tracer("github.com/lithify/lithify/build")

// Engine is a buildkitd that listens at Address: unix://, tcp:// and what else its client
// can dial.
type Engine struct {
	Address string
	// Keychain gives credentials for registries; nil means docker's config file and helpers.
	Keychain authn.Keychain
	// Network is what steps may have at most, whatever a request says: all that the daemon
	// gives (host, default), or none.
	Network string
}

// Result is what was built and pushed.
type Result struct {
	// Descriptor is of the image, or of the index if there are several platforms or
	// attestations.
	Descriptor ocispec.Descriptor
	// Metadata is what BuildKit tells of it, by buildctl's keys (containerimage.digest).
	Metadata map[string]any
}

// answerTimeout is how long a buildkitd may take to say that it is there.
const answerTimeout = 10 * time.Second

// Build builds r and pushes the result by its digest. status, if not nil, is called from
// one goroutine, one call at a time, with what BuildKit says of its steps; it may block,
// which holds the build up. Of r's secrets the lines that a step prints whole are hidden in
// it. Where ctx ends, so do the steps that run. An error of the build itself is an *Error.
func (e Engine) Build(ctx context.Context, r Request, status func(*client.SolveStatus)) (_ *Result, err error) {
	ctx, span := tracer.Start(ctx, "build image")
	span.SetAttributes(attribute.String("lithify.target", r.Repository))
	defer func() {
		if err != nil {
			span.RecordError(err)
		}
		span.End()
	}()
	if e.Network == "none" {
		r.Network = e.Network
	}
	if err := r.Validate(); err != nil {
		return nil, err
	}
	building, end := context.WithCancelCause(ctx)
	defer end(nil)
	in, err := open(r, end)
	if err != nil {
		return nil, err
	}
	defer in.close()
	secrets, err := readSecrets(r.Secrets)
	if err != nil {
		return nil, err
	}
	opt, err := e.options(r, in, secrets)
	if err != nil {
		return nil, err
	}
	c, err := e.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	hidden := secrets.hidden()
	response, err := solve(building, c, opt, func(s *client.SolveStatus) {
		if hide(hidden, s); status != nil {
			status(s)
		}
	})
	if refused := context.Cause(building); refused != nil && ctx.Err() == nil {
		return nil, refused
	}
	if err != nil {
		return nil, failure(ctx, err)
	}
	return result(response)
}

// Ping asks the daemon whether it answers.
func (e Engine) Ping(ctx context.Context) error {
	c, err := e.dial(ctx)
	if err != nil {
		return err
	}
	return c.Close()
}

// Platforms are those that the daemon builds for without an emulation that the Dockerfile
// brings, its own first.
func (e Engine) Platforms(ctx context.Context) ([]ocispec.Platform, error) {
	c, err := e.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	workers, err := c.ListWorkers(ctx)
	if err != nil {
		return nil, fmt.Errorf("buildkitd at %s: %w", e.Address, err)
	}
	if len(workers) == 0 {
		return nil, fmt.Errorf("buildkitd at %s has no worker: %w", e.Address, errdefs.ErrUnavailable)
	}
	return workers[0].Platforms, nil
}

// dial connects and waits for an answer, so that a daemon that is not there is told from
// a build that goes wrong.
func (e Engine) dial(ctx context.Context) (*client.Client, error) {
	c, err := client.New(ctx, e.Address)
	if err != nil {
		return nil, invalid("buildkitd at %s: %w", e.Address, err)
	}
	ask, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if _, err := c.Info(ask); err != nil {
		c.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("buildkitd at %s does not answer: %w: %w", e.Address, errdefs.ErrUnavailable, err)
	}
	return c, nil
}

func (e Engine) options(r Request, in *input, secrets secrets) (opt client.SolveOpt, err error) {
	agents, err := r.agents()
	if err != nil {
		return opt, err
	}
	attrs, err := r.frontendAttrs()
	if err != nil {
		return opt, err
	}
	maps.Copy(attrs, in.attrs)
	from, to, err := r.caches()
	if err != nil {
		return opt, err
	}
	export, err := r.export()
	if err != nil {
		return opt, err
	}
	return client.SolveOpt{
		Frontend:      "dockerfile.v0",
		FrontendAttrs: attrs,
		LocalMounts:   in.mounts,
		SharedKey:     in.shared,
		Exports:       []client.ExportEntry{export},
		CacheImports:  from,
		CacheExports:  to,
		Session:       slices.Concat([]session.Attachable{secretsprovider.FromMap(secrets), credentials(e.Keychain)}, agents, in.attach),
	}, nil
}

func (r Request) frontendAttrs() (map[string]string, error) {
	attrs, err := r.attestations()
	if err != nil {
		return nil, err
	}
	// That there is a command line of a frontend tells the one that is built in not to
	// look for another in the Dockerfile's first line.
	attrs["cmdline"] = "dockerfile.v0"
	for k, v := range r.Args {
		attrs["build-arg:"+k] = v
	}
	for k, v := range r.Labels {
		attrs["label:"+k] = v
	}
	if r.Target != "" {
		attrs["target"] = r.Target
	}
	if len(r.Platforms) > 0 {
		attrs["platform"] = strings.Join(r.Platforms, ",")
	}
	if r.NoCache {
		attrs["no-cache"] = ""
	}
	if r.Network == "none" {
		attrs["force-network-mode"] = "none"
	}
	if !r.Epoch.IsZero() {
		attrs["build-arg:SOURCE_DATE_EPOCH"] = strconv.FormatInt(r.Epoch.Unix(), 10)
	}
	return attrs, nil
}

func (r Request) export() (client.ExportEntry, error) {
	layers, err := compression(r.Compression)
	attrs := map[string]string{
		"name":           r.Repository,
		"push":           "true",
		"push-by-digest": "true",
		"oci-mediatypes": "true",
		"compression":    layers,
	}
	if r.Insecure {
		attrs["registry.insecure"] = "true"
	}
	if !r.Epoch.IsZero() {
		attrs["rewrite-timestamp"] = "true"
	}
	return client.ExportEntry{Type: client.ExporterImage, Attrs: attrs}, err
}

// solve has the daemon build while status hears of it.
func solve(ctx context.Context, c *client.Client, opt client.SolveOpt, status func(*client.SolveStatus)) (response map[string]string, err error) {
	ch := make(chan *client.SolveStatus)
	var eg errgroup.Group
	eg.Go(func() error {
		r, err := c.Solve(ctx, nil, opt, ch) // closes ch
		if err == nil {
			response = r.ExporterResponse
		}
		return err
	})
	for s := range ch {
		status(s)
	}
	return response, eg.Wait()
}

func result(response map[string]string) (*Result, error) {
	r := &Result{Metadata: map[string]any{}}
	for k, v := range response {
		r.Metadata[k] = v
		if raw, err := base64.StdEncoding.DecodeString(v); err == nil && json.Valid(raw) { // as buildctl tells them
			r.Metadata[k] = json.RawMessage(raw)
		}
	}
	raw, ok := r.Metadata[exptypes.ExporterImageDescriptorKey].(json.RawMessage)
	if !ok {
		return nil, fmt.Errorf("buildkitd does not say what it pushed: %w", errdefs.ErrInternal)
	}
	if err := json.Unmarshal(raw, &r.Descriptor); err != nil {
		return nil, fmt.Errorf("descriptor of what was built: %w", err)
	}
	r.Descriptor.Annotations = nil // the time of the push is among them
	return r, r.Descriptor.Digest.Validate()
}
