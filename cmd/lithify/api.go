package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/lithify/lithify/console"
	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/spf13/pflag"
)

// pool is one that takes jobs and tells of them: by NATS, or by its API.
type pool interface {
	Submit(context.Context, jobs.Job) (queue.Status, error)
	Watch(ctx context.Context, id jobs.ID, after uint64) iter.Seq2[queue.Event, error]
	ReadLog(ctx context.Context, id jobs.ID, after uint64) iter.Seq2[queue.LogPart, error]
	Wait(context.Context, jobs.ID) (queue.Status, error)
}

// apiFlags say where the pool's API is, for those who have no key of its NATS.
type apiFlags struct{ url, tokenFile, audience string }

func (f *apiFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.url, "api", os.Getenv("LITHIFY_API"), "URL of the pool's console, instead of its NATS; $LITHIFY_API")
	fs.StringVar(&f.tokenFile, "token-file", "", "with --api: file with an OpenID token (default: $LITHIFY_TOKEN, or the token of the GitHub Actions job)")
	fs.StringVar(&f.audience, "audience", os.Getenv("LITHIFY_AUDIENCE"), "with --api: audience of the token that GitHub Actions is asked for, where it is not the URL; $LITHIFY_AUDIENCE")
}

// client is one for the API.
func (f *apiFlags) client() (*console.Client, error) {
	u, err := url.Parse(f.url)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil {
		return nil, usageError{errors.New("--api: want https://HOST[:PORT], without a user")}
	}
	if u.Scheme == "http" && !console.IsLoopback(u.Hostname()) {
		return nil, usageError{fmt.Errorf("--api %s: the token would go there in the clear; use https", f.url)}
	}
	return &console.Client{URL: f.url, Token: f.token}, nil
}

// token is read anew for each request: it may have been replaced.
func (f *apiFlags) token(ctx context.Context) (string, error) {
	if f.tokenFile != "" {
		b, err := os.ReadFile(f.tokenFile)
		return strings.TrimSpace(string(b)), err
	}
	if t := os.Getenv("LITHIFY_TOKEN"); t != "" {
		return t, nil
	}
	if u := os.Getenv("ACTIONS_ID_TOKEN_REQUEST_URL"); u != "" {
		return actionsToken(ctx, u, cmp.Or(f.audience, f.url))
	}
	return "", usageError{errors.New("--api needs a token: --token-file, $LITHIFY_TOKEN, or in GitHub Actions the permission id-token: write")}
}

const (
	actionsTimeout = 10 * time.Second
	// maxToken is far above a token's size, in bytes.
	maxToken = 64 << 10
)

// actionsToken asks GitHub Actions for the token of this job
// (https://docs.github.com/en/actions/reference/security/oidc).
func actionsToken(ctx context.Context, ask, audience string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, actionsTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, ask+"&audience="+url.QueryEscape(audience), nil)
	if err != nil {
		return "", fmt.Errorf("$ACTIONS_ID_TOKEN_REQUEST_URL: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+os.Getenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("ask GitHub Actions for a token: %w: %w", err, errdefs.ErrUnavailable)
	}
	defer resp.Body.Close()
	var answer struct{ Value string }
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxToken)).Decode(&answer); err != nil || answer.Value == "" {
		return "", fmt.Errorf("ask GitHub Actions for a token: %s: %w", resp.Status, errdefs.ErrUnauthenticated)
	}
	return answer.Value, nil
}
