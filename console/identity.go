package console

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/sync/singleflight"

	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/jobs/layer"
)

const (
	// issuerTimeout bounds a request to an issuer,
	issuerTimeout = 10 * time.Second
	// maxIssuer what it may say: its keys are a few KiB.
	maxIssuer = 1 << 20
)

// issuers check tokens. Each is asked for its keys when the first token of it comes, and
// not before: a pool starts while one is away.
type issuers struct {
	byURL map[string]*issuer
}

type issuer struct {
	Issuer

	asking   singleflight.Group
	verifier atomic.Pointer[oidc.IDTokenVerifier]
}

func newIssuers(list []Issuer) issuers {
	is := issuers{map[string]*issuer{}}
	for _, i := range list {
		is.byURL[i.URL] = &issuer{Issuer: i}
	}
	return is
}

// identity is somebody with a token that is good.
type identity struct {
	name    string // the token's subject, at its issuer
	grants  []Grant
	expires time.Time // of the token
}

// identify reads the bearer token of a request. One that is missing, expired, for
// somebody else or of nobody known is errdefs.ErrUnauthenticated, one that no grant is
// for errdefs.ErrPermissionDenied, and an issuer that does not answer
// errdefs.ErrUnavailable.
func (is issuers) identify(r *http.Request) (identity, error) {
	raw, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return identity{}, fmt.Errorf("a bearer token is required: %w", errdefs.ErrUnauthenticated)
	}
	return is.check(r.Context(), raw)
}

// check is identify for a token.
func (is issuers) check(ctx context.Context, raw string) (identity, error) {
	i := is.byURL[issuerOf(raw)]
	if i == nil {
		return identity{}, fmt.Errorf("the token is of no issuer that is known here: %w", errdefs.ErrUnauthenticated)
	}
	v, err := i.keys(ctx)
	if err != nil {
		return identity{}, fmt.Errorf("issuer %s: %w: %w", i.URL, err, errdefs.ErrUnavailable)
	}
	token, err := v.Verify(ctx, raw)
	if err != nil {
		return identity{}, fmt.Errorf("token: %w: %w", err, errdefs.ErrUnauthenticated)
	}
	var claims map[string]any
	if err := token.Claims(&claims); err != nil {
		return identity{}, fmt.Errorf("token: %w: %w", err, errdefs.ErrUnauthenticated)
	}
	id := identity{name: token.Subject + " at " + i.URL, expires: token.Expiry}
	for _, g := range i.Grants {
		if g.isFor(claims) {
			id.grants = append(id.grants, g)
		}
	}
	if len(id.grants) == 0 {
		return id, fmt.Errorf("no grant is for %s: %w", id.name, errdefs.ErrPermissionDenied)
	}
	return id, nil
}

// issuerOf reads who a token says that it is of; nothing is believed of that.
func issuerOf(raw string) string {
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return ""
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	if json.Unmarshal(b, &claims) != nil {
		return ""
	}
	return claims.Issuer
}

// keys finds the issuer's keys, which go-oidc then fetches as they change. All who wait for
// them share one request, which may outlive them by its own timeout.
func (i *issuer) keys(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	if v := i.verifier.Load(); v != nil {
		return v, nil
	}
	asked := i.asking.DoChan(i.URL, func() (any, error) {
		// The provider keeps its context for later fetches of keys.
		p, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), &http.Client{Timeout: issuerTimeout, Transport: terse{}}), i.URL)
		if err == nil {
			i.verifier.Store(p.Verifier(&oidc.Config{ClientID: i.Audience}))
		}
		return nil, err
	})
	select {
	case r := <-asked:
		return i.verifier.Load(), r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// terse carries requests whose answers end after maxIssuer bytes.
type terse struct{}

func (terse) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxIssuer), resp.Body}
	return resp, nil
}

// isFor reports whether the claims of a token are all as the grant wants them.
func (g Grant) isFor(claims map[string]any) bool {
	for name, pattern := range g.Claims {
		v, ok := claims[name]
		switch v.(type) {
		case string, bool:
		default:
			ok = false
		}
		if !ok || !matches(pattern, fmt.Sprint(v)) {
			return false
		}
	}
	return true
}

// submission is what somebody may have the pool do, by the first grant that allows it; why
// not is errdefs.ErrPermissionDenied.
func (id identity) submission(a jobs.Args, o jobs.Options) (jobs.Options, error) {
	var errs []error
	for _, g := range id.grants {
		err := g.allows(a, o)
		if err == nil {
			o.Tenant, o.Submitter = g.Tenant, id.name
			return o, nil
		}
		errs = append(errs, err)
	}
	return o, fmt.Errorf("%s may not: %w: %w", id.name, errors.Join(errs...), errdefs.ErrPermissionDenied)
}

func (g Grant) allows(a jobs.Args, o jobs.Options) error {
	refs, ok := a.(jobs.Referring)
	if !ok || !slices.Contains(g.Kinds, a.Kind()) {
		return fmt.Errorf("submit jobs of kind %s", a.Kind())
	}
	if p := cmp.Or(o.Priority, jobs.Bulk); len(g.Priorities) > 0 && !slices.Contains(g.Priorities, p) {
		return fmt.Errorf("submit with priority %s", p)
	}
	if err := g.checkSafety(a); err != nil {
		return err
	}
	reads, writes := refs.References()
	if err := within("read", reads, g.Reads); err != nil {
		return err
	}
	return within("write", writes, g.Writes)
}

// checkSafety refuses what would send the workers' credentials in the clear, and what would
// cost them more than a pool's own limits.
func (g Grant) checkSafety(a jobs.Args) error {
	raw, err := json.Marshal(a)
	if err != nil {
		return err
	}
	var said struct {
		Insecure bool         `json:"insecure"`
		Limits   layer.Limits `json:"limits"`
	}
	if err := json.Unmarshal(raw, &said); err != nil {
		return err
	}
	if !g.Insecure && (said.Insecure || strings.Contains(strings.ToLower(string(raw)), "registry.insecure")) {
		return errors.New("speak plain HTTP to registries")
	}
	most := erofs.DefaultLimits
	if l := said.Limits; l.Bytes > most.Bytes || l.FileBytes > most.FileBytes || l.Entries > most.Entries || l.PAXBytes > most.PAXBytes || l.MetaBytes > most.MetaBytes {
		return errors.New("raise the limits of a layer above their defaults")
	}
	return nil
}

// within reports the first reference that is none of the patterns' repositories; one to
// a file never is.
func within(what string, refs, patterns []string) error {
	for _, ref := range refs {
		repo, err := repositoryOf(ref)
		if err != nil {
			return fmt.Errorf("%s %s: %w", what, ref, err)
		}
		if !matchesRepository(patterns, repo) {
			return fmt.Errorf("%s %s", what, repo)
		}
	}
	return nil
}

// repositoryOf is host and path of a reference to a registry, or of a Git repository's URL.
func repositoryOf(ref string) (string, error) {
	u, err := url.Parse(ref)
	git := err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "ssh" || u.Scheme == "http" && IsLoopback(u.Hostname()))
	if !git {
		return registry.RepositoryName(ref)
	}
	if u.Path != path.Clean(u.Path) || u.RawPath != "" {
		return "", fmt.Errorf("the path of %s is not plain: %w", u.Host, errdefs.ErrInvalidArgument)
	}
	return u.Host + u.Path, nil
}

// IsLoopback is of a host that is this machine: what goes there crosses no network.
func IsLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// sees reports whether jobs of a tenant are shown to id.
func (id identity) sees(tenant string) bool {
	return slices.ContainsFunc(id.grants, func(g Grant) bool { return g.Tenant == tenant })
}
