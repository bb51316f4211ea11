package console_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/lithify/lithify/console"
	"github.com/lithify/lithify/console/consoletest"
	"github.com/lithify/lithify/jobs"
	buildjob "github.com/lithify/lithify/jobs/build"
	convertjob "github.com/lithify/lithify/jobs/convert"
)

// post is a push as GitHub posts it.
func post(t *testing.T, url, secret, body string) (int, console.Accepted) {
	t.Helper()
	resp := consoletest.Push(t, url, secret, body)
	defer resp.Body.Close()
	var a console.Accepted
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode == http.StatusAccepted {
		if err := json.Unmarshal(b, &a); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
	}
	return resp.StatusCode, a
}

func push(repository, ref string) string {
	return fmt.Sprintf(`{"ref":%q,"after":"0123456789abcdef0123456789abcdef01234567","repository":{"full_name":%q,"clone_url":"https://git.example.com/x.git"},"pusher":{"name":"ann"}}`, ref, repository)
}

// A push is the job that its rule says, once, however often the host posts it.
func TestPush(t *testing.T) {
	client := startPool(t, func(context.Context, convertjob.Args) (any, error) { return "done", nil })
	cfg, err := load(t, config("https://ci.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	srv := serve(t, client, cfg)
	code, first := post(t, srv.URL+"/hooks/hub", secret, push("acme/app", "refs/heads/feature/one+two"))
	if code != http.StatusAccepted || len(first.Jobs) != 1 {
		t.Fatalf("%d %+v", code, first)
	}
	st, err := client.Wait(t.Context(), first.Jobs[0])
	if err != nil || st.State != jobs.Done || st.Job.Tenant != "acme" || st.Job.Submitter != "push by ann" {
		t.Fatalf("%+v, %v", st, err)
	}
	args, err := jobs.DecodeArgs[convertjob.Args](st.Job.Args)
	if err != nil || args.Source != "registry.example.com/acme/app:0123456789ab" || args.Target != "registry.example.com/acme/app:feature-one-two" {
		t.Errorf("%+v, %v", args, err)
	}
	if _, again := post(t, srv.URL+"/hooks/hub", "another secret of the host", push("acme/app", "refs/heads/feature/one+two")); !cmp.Equal(again.Jobs, first.Jobs) {
		t.Errorf("posted again: %v, first %v", again.Jobs, first.Jobs)
	}
	for name, tc := range map[string]struct {
		hook, secret, body string
		code               int
		ignored            string
	}{
		"wrong secret":     {"hub", "no secret of the host", push("acme/app", "refs/heads/main"), http.StatusUnauthorized, ""},
		"unknown hook":     {"other", secret, push("acme/app", "refs/heads/main"), http.StatusNotFound, ""},
		"other repository": {"hub", secret, push("other/app", "refs/heads/main"), http.StatusAccepted, "no rule matches"},
		"tag":              {"hub", secret, push("acme/app", "refs/tags/v1"), http.StatusAccepted, "no rule matches"},
		"notes":            {"hub", secret, push("acme/app", "refs/notes/x"), http.StatusAccepted, "not a push of commits"},
		"no push":          {"hub", secret, `[]`, http.StatusBadRequest, ""},
		"too large":        {"hub", secret, strings.Repeat("x", 2<<20), http.StatusRequestEntityTooLarge, ""},
		"hostile name":     {"hub", secret, push("acme/UPPER", "refs/heads/main"), http.StatusAccepted, ""}, // the job fails, as it would by hand
	} {
		t.Run(name, func(t *testing.T) {
			code, a := post(t, srv.URL+"/hooks/"+tc.hook, tc.secret, tc.body)
			if code != tc.code || a.Ignored != tc.ignored {
				t.Errorf("%d %+v", code, a)
			}
		})
	}
}

func newArgs(source, target string) convertjob.Args {
	return convertjob.Args{Source: source, Output: convertjob.Output{Target: target}}
}

func apiClient(url, token string) *console.Client {
	return &console.Client{URL: url, Token: func(context.Context) (string, error) { return token, nil }}
}

func newJob(t *testing.T, a jobs.Args, o jobs.Options) jobs.Job {
	t.Helper()
	j, err := jobs.New(a, o)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// Somebody from CI may do what his token's claims are granted, and no more.
func TestGrants(t *testing.T) {
	client := startPool(t, func(context.Context, convertjob.Args) (any, error) { return "done", nil })
	ci := consoletest.New(t)
	cfg, err := load(t, config(ci.URL))
	if err != nil {
		t.Fatal(err)
	}
	srv := serve(t, client, cfg)
	good := newArgs("debian:12", "registry.example.com/acme/debian:12")
	type claims = map[string]any
	for name, tc := range map[string]struct {
		claims claims
		args   jobs.Args
		o      jobs.Options
		is     func(error) bool
		tenant string
	}{
		"granted":               {nil, good, jobs.Options{}, nil, "acme"},
		"of the Docker Hub":     {claims{"repository": "acme/hub"}, newArgs("debian:12", "acme/debian:12"), jobs.Options{}, nil, "hub"},
		"other branch":          {claims{"ref": "refs/heads/x"}, good, jobs.Options{}, errdefs.IsPermissionDenied, ""},
		"no such claim":         {claims{"ref": nil}, good, jobs.Options{}, errdefs.IsPermissionDenied, ""},
		"list for a claim":      {claims{"ref": []string{"refs/heads/main"}}, good, jobs.Options{}, errdefs.IsPermissionDenied, ""},
		"other repository":      {claims{"repository": "evil/acme"}, good, jobs.Options{}, errdefs.IsPermissionDenied, ""},
		"other audience":        {claims{"aud": "sts.example.com"}, good, jobs.Options{}, errdefs.IsUnauthorized, ""},
		"expired":               {claims{"exp": 1}, good, jobs.Options{}, errdefs.IsUnauthorized, ""},
		"other issuer":          {claims{"iss": "https://evil.example.com"}, good, jobs.Options{}, errdefs.IsUnauthorized, ""},
		"writes elsewhere":      {nil, newArgs("debian:12", "registry.example.com/other/debian:12"), jobs.Options{}, errdefs.IsPermissionDenied, ""},
		"writes below":          {nil, newArgs("debian:12", "registry.example.com/acme/a/b:12"), jobs.Options{}, errdefs.IsPermissionDenied, ""},
		"reads elsewhere":       {nil, newArgs("registry.example.com/secret/app:1", "registry.example.com/acme/app:1"), jobs.Options{}, errdefs.IsPermissionDenied, ""},
		"reads a file":          {nil, newArgs("oci:/etc", "registry.example.com/acme/app:1"), jobs.Options{}, errdefs.IsPermissionDenied, ""},
		"writes a file":         {nil, newArgs("debian:12", "oci:/registry.example.com/acme/app"), jobs.Options{}, errdefs.IsPermissionDenied, ""},
		"writes a ledger":       {nil, withLedger(good, "other/app"), jobs.Options{}, errdefs.IsPermissionDenied, ""},
		"urgent":                {nil, good, jobs.Options{Priority: jobs.Interactive}, errdefs.IsPermissionDenied, ""},
		"urgent, by a grant":    {claims{"repository": "acme/release"}, newArgs("registry.example.com/a/b/c", "registry.example.com/d/e:1"), jobs.Options{Priority: jobs.Interactive}, nil, "releases"},
		"builds a repository":   {nil, newBuild("https://git.example.com/acme/app.git#main"), jobs.Options{}, nil, "acme"},
		"builds another's":      {nil, newBuild("https://git.example.com/other/app.git"), jobs.Options{}, errdefs.IsPermissionDenied, ""},
		"builds a way around":   {nil, newBuild("https://git.example.com/acme/../other/app.git"), jobs.Options{}, errdefs.IsPermissionDenied, ""},
		"builds another way":    {nil, newBuild("https://git.example.com/acme/%2e%2e/app.git"), jobs.Options{}, errdefs.IsPermissionDenied, ""},
		"builds a layout":       {nil, newBuild("oci://git.example.com/acme/x"), jobs.Options{}, errdefs.IsPermissionDenied, ""},
		"builds in the clear":   {nil, newBuild("http://git.example.com/acme/app.git"), jobs.Options{}, errdefs.IsPermissionDenied, ""},
		"writes a layout":       {nil, newArgs("debian:12", "oci://registry.example.com/acme/debian"), jobs.Options{}, errdefs.IsPermissionDenied, ""},
		"reads a way around":    {claims{"repository": "acme/release"}, newArgs("registry.example.com/acme/../secret/app:1", "registry.example.com/acme/app:1"), jobs.Options{}, errdefs.IsPermissionDenied, ""},
		"speaks plain HTTP":     {nil, plain(good), jobs.Options{}, errdefs.IsPermissionDenied, ""},
		"raises a limit":        {nil, endless(good), jobs.Options{}, errdefs.IsPermissionDenied, ""},
		"waits for ever":        {nil, good, jobs.Options{NotBefore: time.Now().Add(1e6 * time.Hour)}, errdefs.IsInvalidArgument, ""},
		"builds a directory":    {nil, newBuild("/etc"), jobs.Options{}, errdefs.IsPermissionDenied, ""},
		"builds a relative one": {nil, newBuild("library/x"), jobs.Options{}, errdefs.IsPermissionDenied, ""},
		"asks for a tenant":     {nil, good, jobs.Options{Tenant: "releases"}, errdefs.IsInvalidArgument, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := apiClient(srv.URL, ci.Token(tc.claims))
			st, err := c.Submit(t.Context(), newJob(t, tc.args, tc.o))
			if tc.is != nil {
				if err == nil || !tc.is(err) {
					t.Errorf("%+v, %v", st, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if st.Job.Tenant != tc.tenant {
				t.Errorf("tenant %s, want %s", st.Job.Tenant, tc.tenant)
			}
			if tc.args.Kind() != convertjob.Kind { // nobody here does it
				return
			}
			if st, err = c.Wait(t.Context(), st.ID); err != nil || st.State != jobs.Done {
				t.Errorf("%+v, %v", st, err)
			}
		})
	}
	t.Run("no token", func(t *testing.T) {
		for _, path := range []string{"/v1/jobs/convert-x", "/v1/jobs/convert-x/log", "/v1/jobs/convert-x/events"} {
			resp, err := http.Get(srv.URL + path)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("%s: %s", path, resp.Status)
			}
		}
	})
	t.Run("another tenant's job", func(t *testing.T) {
		st, err := client.Submit(t.Context(), newJob(t, good, jobs.Options{Tenant: "other"}))
		if err != nil {
			t.Fatal(err)
		}
		c := apiClient(srv.URL, ci.Token(nil))
		if _, err := c.Get(t.Context(), st.ID); !errdefs.IsNotFound(err) {
			t.Errorf("get: %v", err)
		}
		if _, err := c.Cancel(t.Context(), st.ID, ""); !errdefs.IsNotFound(err) {
			t.Errorf("cancel: %v", err)
		}
		for _, err := range c.ReadLog(t.Context(), st.ID, 0) {
			if !errdefs.IsNotFound(err) {
				t.Errorf("log: %v", err)
			}
		}
	})
	t.Run("another's key", func(t *testing.T) {
		job := newJob(t, good, jobs.Options{IdempotencyKey: "one"})
		ids := map[jobs.ID]int{}
		for _, sub := range []string{"a", "a", "b"} {
			st, err := apiClient(srv.URL, ci.Token(claims{"sub": sub})).Submit(t.Context(), job)
			if err != nil {
				t.Fatal(err)
			}
			ids[st.ID]++
		}
		if len(ids) != 2 {
			t.Errorf("jobs: %v", ids)
		}
	})
}

func newBuild(context string) buildjob.Args {
	return buildjob.Args{Context: context, Output: convertjob.Output{Target: "registry.example.com/acme/app:1"}}
}

// A token goes to the pool alone, wherever that points.
func TestNoRedirects(t *testing.T) {
	leaked := make(chan string, 1)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { leaked <- r.Header.Get("Authorization") }))
	defer elsewhere.Close()
	srv := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer srv.Close()
	if st, err := apiClient(srv.URL, "secret").Get(t.Context(), "convert-x"); err == nil {
		t.Errorf("got %+v", st)
	}
	select {
	case token := <-leaked:
		t.Errorf("asked elsewhere with %q", token)
	default:
	}
}

func plain(a convertjob.Args) convertjob.Args {
	a.Insecure = true
	return a
}

func endless(a convertjob.Args) convertjob.Args {
	a.Limits.Entries = 1 << 60
	return a
}

func withLedger(a convertjob.Args, repo string) convertjob.Args {
	a.LedgerRepo = repo
	return a
}

// Whoever follows a job through the API has its whole history and log, in order, though
// his connections break.
func TestStreamsGoOn(t *testing.T) {
	step := make(chan struct{})
	client := startPool(t, func(ctx context.Context, _ convertjob.Args) (any, error) {
		for i := range 20 {
			select {
			case <-step:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			jobs.Log(ctx, fmt.Appendf(nil, "line %d\n", i))
			jobs.Event(ctx, "step", "n", i)
		}
		return "done", nil
	})
	ci := consoletest.New(t)
	cfg, err := load(t, config(ci.URL))
	if err != nil {
		t.Fatal(err)
	}
	srv := serve(t, client, cfg)
	breaks := &breaking{at: 2}
	c := apiClient(srv.URL, ci.Token(nil))
	c.HTTP = &http.Client{Transport: &http.Transport{DialContext: breaks.dial}}
	st, err := c.Submit(t.Context(), newJob(t, newArgs("debian:12", "registry.example.com/acme/debian:12"), jobs.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for range 20 {
			step <- struct{}{}
		}
	}()
	var log, want bytes.Buffer
	for part, err := range c.ReadLog(t.Context(), st.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
		log.Write(part.Data)
	}
	for i := range 20 {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	if diff := cmp.Diff(log.String(), want.String()); diff != "" {
		t.Errorf("log: -got +want:\n%s", diff)
	}
	steps, last := 0, ""
	for e, err := range c.Watch(t.Context(), st.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if last = e.Phrase; last == "step" {
			steps++
		}
	}
	if steps != 20 || last != "done" {
		t.Errorf("%d steps, the last event is %q", steps, last)
	}
	if n := breaks.broken.Load(); n < 2 {
		t.Errorf("%d connections broke, the test is about those", n)
	}
}

// breaking makes connections that break in the middle of their at-th answer.
type breaking struct {
	at     int
	broken atomic.Int32
}

func (b *breaking) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	return &breakingConn{c, b, b.at}, err
}

type breakingConn struct {
	net.Conn
	*breaking
	left int
}

func (c *breakingConn) Read(p []byte) (int, error) {
	if c.left--; c.left < 0 {
		c.broken.Add(1)
		c.Close()
	}
	return c.Conn.Read(p)
}

// A cancel through the API ends the job.
func TestCancel(t *testing.T) {
	started, stopped := make(chan struct{}), make(chan struct{})
	client := startPool(t, func(ctx context.Context, _ convertjob.Args) (any, error) {
		close(started)
		<-ctx.Done()
		close(stopped)
		return nil, ctx.Err()
	})
	ci := consoletest.New(t)
	cfg, err := load(t, config(ci.URL))
	if err != nil {
		t.Fatal(err)
	}
	c := apiClient(serve(t, client, cfg).URL, ci.Token(nil))
	st, err := c.Submit(t.Context(), newJob(t, newArgs("debian:12", "registry.example.com/acme/debian:12"), jobs.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	<-started
	if st, err = c.Cancel(t.Context(), st.ID, ""); err != nil || st.State != jobs.Cancelled {
		t.Errorf("%+v, %v", st, err)
	}
	<-stopped
}
