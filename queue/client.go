package queue

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/semaphore"
)

// Config says how to reach the pool; the zero value finds the "lithify serve" of
// this machine and user.
type Config struct {
	URL         string        // else the context file's
	NkeyFile    string        // file with an nkey seed
	CredsFile   string        // file with NATS credentials
	TLSCA       string        // PEM file: who must have signed the server's certificate; else the system's
	TLSCert     string        // PEM files: this client's certificate,
	TLSKey      string        // and its key
	KeysFile    string        // file with the pool's public keys; see Keys
	ContextFile string        // default ContextPath()
	Name        string        // of this connection, for the server's operator
	Options     []nats.Option // added last; an in-process connection
	Log         *slog.Logger  // default: discards
}

const (
	// reconnectWait is short: a pool's server restarts in well under a second.
	reconnectWait = 250 * time.Millisecond
	// apiTimeout bounds one request to the server. A synced write on a disk that
	// others write to was seen to take 5 s.
	apiTimeout = 15 * time.Second
	// callTimeout bounds one try of what is safe to try again. A leader of a
	// cluster that dies answers nothing more, and nobody is told.
	callTimeout = apiTimeout / 3
	// answers to one request, more than listBatch. Room for as many is made for each
	// request that has more than one answer, and by default half a megabyte.
	answers = 2 * listBatch
)

// Client is a connection to the pool, safe for concurrent use. It reconnects for
// ever; calls made meanwhile end with an error after their own bound.
type Client struct {
	nc   *nats.Conn
	js   jetstream.JetStream
	log  *slog.Logger
	name string

	state, work *group              // writes to STATE and WORK
	parts       *semaphore.Weighted // of SubmitAll

	key    ed25519.PrivateKey // to sign with; nil: none
	public string             // its public half
	keys   *Keys              // whose signatures count; nil: nothing needs one
}

// Connect opens a connection and checks that the server answers. Without a pool,
// or one that does not answer, the error is errdefs.ErrUnavailable; one that knows
// no such user is errdefs.ErrUnauthenticated, and what is no URL
// errdefs.ErrInvalidArgument.
func Connect(ctx context.Context, cfg Config) (*Client, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	explain := func(err error) error { return fmt.Errorf("connect to %s: %w", redacted(cfg.URL), kinded(err)) }
	if cfg.URL == "" {
		path, c, err := findContext(cfg.ContextFile)
		if err != nil {
			return nil, err
		}
		cfg.URL, cfg.NkeyFile, cfg.KeysFile = c.URL, c.NkeyFile, c.KeysFile
		explain = func(err error) error { return c.stale(path, kinded(err)) }
	}
	opts, err := natsOptions(cfg)
	if err != nil {
		return nil, err
	}
	c := &Client{log: cfg.Log, name: cfg.Name, parts: semaphore.NewWeighted(submitParts)}
	if err := c.setKeys(&cfg); err != nil {
		return nil, err
	}
	if c.nc, err = nats.Connect(cfg.URL, opts...); err != nil {
		return nil, explain(err)
	}
	fctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	if err := c.nc.FlushWithContext(fctx); err != nil {
		c.nc.Close()
		return nil, explain(err)
	}
	if c.js, err = c.newJetStream(); err == nil {
		c.state, err = newGroup(c.nc, func(ctx context.Context, subjects ...string) (map[string]*jetstream.RawStreamMsg, error) {
			return c.last(ctx, streamState, subjects...)
		})
	}
	if err == nil {
		c.state.blind = c.Account() != ""
		c.work, err = newGroup(c.nc, nil)
	}
	if err != nil {
		c.nc.Close()
		return nil, err
	}
	c.nc.SetDisconnectErrHandler(c.disconnected)
	return c, nil
}

var userinfo = regexp.MustCompile(`(?s)^([a-z]+://)?.*@`)

// redacted is a list of URLs without user names, which may be tokens. nats.go
// takes URLs without a scheme, and whoever has an @, a slash or a comma in the
// password did not write it as a URL wants it.
func redacted(urls string) string {
	parts := strings.Split(urls, ",")
	for i, u := range parts {
		if strings.Contains(u, "@") && !strings.Contains(u, "://") {
			for j := range i {
				parts[j] = "..." // perhaps the beginning of a password
			}
		}
		parts[i] = userinfo.ReplaceAllString(u, "$1")
	}
	return strings.Join(parts, ",")
}

// kinded gives an error of nats.Connect its kind. url.Parse's is left out: it
// repeats the URL, in whole or in part.
func kinded(err error) error {
	if _, ok := errors.AsType[*url.Error](err); ok {
		return fmt.Errorf("not a URL: %w", errdefs.ErrInvalidArgument)
	}
	if errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) || errors.Is(err, nats.ErrAuthRevoked) {
		return fmt.Errorf("%w: %w", errdefs.ErrUnauthenticated, err)
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Errorf("the server's certificate is not trusted (--tls-ca): %w: %w", errdefs.ErrUnauthenticated, err)
	}
	return fmt.Errorf("%w: %w", errdefs.ErrUnavailable, err)
}

func findContext(path string) (string, Context, error) {
	var err error
	if path == "" {
		if path, err = ContextPath(); err != nil {
			return "", Context{}, err
		}
	}
	c, err := ReadContext(path)
	return path, c, err
}

func natsOptions(cfg Config) ([]nats.Option, error) {
	opts := []nats.Option{
		nats.Name(cfg.Name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.Timeout(apiTimeout),
		nats.SyncQueueLen(answers),
		nats.ReconnectHandler(func(*nats.Conn) { cfg.Log.Info("queue connection restored") }),
		// A refused permission reaches only this handler; the call itself times out.
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			cfg.Log.Error("queue connection error", "error", err)
		}),
	}
	if cfg.NkeyFile != "" {
		o, err := nats.NkeyOptionFromSeed(cfg.NkeyFile)
		if err != nil {
			return nil, fmt.Errorf("nkey file %s: %w", cfg.NkeyFile, err)
		}
		opts = append(opts, o)
	}
	if cfg.CredsFile != "" {
		opts = append(opts, nats.UserCredentials(cfg.CredsFile))
	}
	secure, err := cfg.tlsOptions()
	if err != nil {
		return nil, err
	}
	opts = append(opts, secure...)
	return append(opts, cfg.Options...), nil
}

// Close ends the connection. What was published before is on its way.
func (c *Client) Close() {
	c.nc.Close()
	c.state.running.Wait()
	c.work.running.Wait()
}

func (c *Client) disconnected(_ *nats.Conn, err error) {
	c.state.lost()
	c.work.lost()
	if err != nil {
		c.log.Warn("queue connection lost", "error", err)
	}
}

// Connected reports whether the server can be reached now.
func (c *Client) Connected() bool { return c.nc.IsConnected() }

// JetStream is for the services in queue/scheduler and queue/worker.
func (c *Client) JetStream() jetstream.JetStream { return c.js }

// apiCode is the JetStream error code in err, or 0.
func apiCode(err error) jetstream.ErrorCode {
	if e, ok := errors.AsType[*jetstream.APIError](err); ok {
		return e.ErrorCode
	}
	return 0
}

const (
	codeWrongSequence           = jetstream.JSErrCodeStreamWrongLastSequence // 10071
	codeWrongSequenceReplicated = jetstream.ErrorCode(10164)                 // the same on a stream of several replicas
	codeSubjectFull             = jetstream.ErrorCode(10077)
	codeBatchIncomplete         = jetstream.ErrorCode(10176) // or its messages could not be stored
	codeTimeZone                = jetstream.ErrorCode(10223)
)
