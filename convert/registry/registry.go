package registry

import (
	"context"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/lithify/lithify/convert"
)

// Options say how to reach a registry. The zero value is right for a person at a
// terminal; of layouts and archives only Quiet counts.
type Options struct {
	// Insecure allows plain HTTP. Loopback addresses are allowed it always.
	Insecure bool
	// DenyPrivate refuses connections to addresses that are not public, looked at
	// after the name is resolved. Environment proxies are then not used: they
	// would resolve the name out of our sight.
	DenyPrivate bool
	// Keychain gives credentials; nil means docker's config file and helpers.
	Keychain authn.Keychain
	// Transport carries the requests; nil means one shared by the whole process.
	// With DenyPrivate it has to be an *http.Transport.
	Transport http.RoundTripper

	// Quiet, if not nil, is told of each wait in which no byte moves, before it
	// begins: for a connection, for the answer to a request whose body is sent, for
	// the time at which to ask again, for a disk to sync; and of each read of bytes
	// that are skipped. bound is the longest that
	// it may take, why is for people. end is called once it is over, on whatever
	// goroutine. ctx is that of the call it happens in, or one made from it. Quiet is
	// called from many goroutines, several waits overlap, and both functions return
	// at once. jobs.Quiet is one.
	Quiet func(ctx context.Context, bound time.Duration, why string) (end func())

	// Limiter, if not nil, is asked before each request. Without one a registry gets
	// as many as there are, and one that refuses some is left alone by those only.
	Limiter Limiter

	sleep func(context.Context, time.Duration) error // tests do not wait
	idle  time.Duration
}

func (o Options) withDefaults() (Options, error) {
	if o.Keychain == nil {
		o.Keychain = authn.DefaultKeychain
	}
	if o.sleep == nil {
		o.sleep = sleep
	}
	o.Quiet = o.quiet()
	if o.idle == 0 {
		o.idle = idleTimeout
	}
	o.sleep = o.rest(o.sleep)
	var err error
	o.Transport, err = carrier(o.Transport, o.DenyPrivate)
	return o, err
}

// quiet is Quiet, or what tells nobody.
func (o Options) quiet() func(context.Context, time.Duration, string) func() {
	if o.Quiet != nil {
		return o.Quiet
	}
	return func(context.Context, time.Duration, string) func() { return func() {} }
}

// rest is sleep, declared.
func (o Options) rest(sleep func(context.Context, time.Duration) error) func(context.Context, time.Duration) error {
	return func(ctx context.Context, d time.Duration) error {
		defer o.Quiet(ctx, d, "waiting to ask again")()
		return sleep(ctx, d)
	}
}

// Open names an image to read. A registry is asked nothing yet; a layout or an
// archive has to be there and readable.
func Open(ref string, o Options) (convert.Source, error) {
	p, err := parse(ref)
	if err != nil {
		return nil, err
	}
	switch p.scheme {
	case "oci":
		return openLayout(p, o)
	case "oci-archive":
		return openOCIArchive(p)
	case "docker-archive":
		return openDockerArchive(p)
	}
	return newRepository(p.path, o, "pull")
}

// Create names a place to write an image to: a tag of a registry (latest if none
// is given) or of an OCI layout, whose directory is made if it is not there.
func Create(ref string, o Options) (convert.Target, error) {
	p, err := parse(ref)
	if err != nil {
		return nil, err
	}
	if p.digest != "" {
		return nil, noDigest(ref)
	}
	switch p.scheme {
	case "oci":
		return createLayout(p, o)
	case "oci-archive", "docker-archive":
		return nil, invalid("create %s: archives can only be read, write to oci:DIR", ref)
	}
	r, err := newRepository(p.path, o, "push,pull")
	if err != nil {
		return nil, err
	}
	if _, ok := r.ref.(name.Digest); ok {
		return nil, noDigest(ref)
	}
	return r, nil
}

func noDigest(ref string) error {
	return invalid("create %s: a digest is given by the content, name a tag", ref)
}
