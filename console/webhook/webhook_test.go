package webhook

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

// What the hosts' own documentation gives as examples of a secret, a body and its signature.
func TestPublishedSignatures(t *testing.T) {
	at := time.Unix(1614265330, 0)
	for name, tc := range map[string]struct {
		host         Host
		header       http.Header
		body, secret string
		now          time.Time
		want         bool
	}{
		"github": {GitHub, http.Header{"X-Hub-Signature-256": {"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}},
			"Hello, World!", "It's a Secret to Everybody", at, true},
		"github, other body": {GitHub, http.Header{"X-Hub-Signature-256": {"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}},
			"Hello, World?", "It's a Secret to Everybody", at, false},
		"standard":               {GitLab, standardHeader(), `{"test": 2432232314}`, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", at.Add(time.Minute), true},
		"standard, late":         {GitLab, standardHeader(), `{"test": 2432232314}`, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", at.Add(time.Hour), false},
		"standard, early":        {GitLab, standardHeader(), `{"test": 2432232314}`, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", at.Add(-time.Hour), false},
		"standard, other secret": {GitLab, standardHeader(), `{"test": 2432232314}`, "whsec_AAAA9r8GKYqrTwjUPD8ILPZIo2LaLaSw", at, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tc.host.signed(tc.header, []byte(tc.body), tc.secret, tc.now); got != tc.want {
				t.Errorf("signed: %v", got)
			}
		})
	}
}

func standardHeader() http.Header {
	h := http.Header{}
	h.Set("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
	h.Set("webhook-timestamp", "1614265330")
	h.Set("webhook-signature", "v1,AAAA v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
	return h
}

const (
	secret = "0123456789abcdef"
	commit = "0da1a1b1e2c3d4f5061728394a5b6c7d8e9f0a1b"
	zeros  = "0000000000000000000000000000000000000000"
)

// sign is what the host does to a post.
func sign(h Host, body, secret string, now time.Time) http.Header {
	header, sum := http.Header{}, hex.EncodeToString(mac([]byte(secret), []byte(body)))
	switch h {
	case GitHub:
		header.Set("X-GitHub-Event", "push")
		header.Set("X-Hub-Signature-256", "sha256="+sum)
	case Gitea:
		header.Set("X-Gitea-Event", "push")
		header.Set("X-Gitea-Signature", sum)
	case GitLab:
		header.Set("X-Gitlab-Event", "Push Hook")
		header.Set("X-Gitlab-Token", secret)
	}
	return header
}

func TestRead(t *testing.T) {
	github := func(ref, after, more string) string {
		return fmt.Sprintf(`{"ref":%q,"after":%q,"repository":{"full_name":"acme/app","clone_url":"https://git.example.com/acme/app.git"},"pusher":{"name":"ann","login":"ann"}%s}`, ref, after, more)
	}
	gitlab := func(kind, sha string) string {
		return fmt.Sprintf(`{"object_kind":%q,"ref":"refs/heads/main","checkout_sha":%s,"user_username":"ann",
			"project":{"path_with_namespace":"acme/app","git_http_url":"https://git.example.com/acme/app.git"}}`, kind, sha)
	}
	is := func(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }
	none := func(err error) bool { return err == nil }
	for name, tc := range map[string]struct {
		host Host
		body string
		want func(error) bool
	}{
		"github":             {GitHub, github("refs/heads/main", commit, ""), none},
		"gitea":              {Gitea, github("refs/heads/main", commit, ""), none},
		"gitlab":             {GitLab, gitlab("push", strconv.Quote(commit)), none},
		"gitlab tag":         {GitLab, gitlab("tag_push", strconv.Quote(commit)), none},
		"github deletion":    {GitHub, github("refs/heads/main", zeros, `,"deleted":true`), is(ErrIgnored)},
		"gitea deletion":     {Gitea, github("refs/heads/main", zeros, ""), is(ErrIgnored)},
		"gitlab deletion":    {GitLab, gitlab("push", "null"), is(ErrIgnored)},
		"gitlab other event": {GitLab, gitlab("merge_request", strconv.Quote(commit)), is(ErrIgnored)},
		"notes":              {GitHub, github("refs/notes/x", commit, ""), is(ErrIgnored)},
		"no JSON":            {GitHub, "ref=refs", errdefs.IsInvalidArgument},
		"no repository":      {GitHub, `{"ref":"refs/heads/main","after":"` + commit + `"}`, errdefs.IsInvalidArgument},
		"no commit":          {GitHub, github("refs/heads/main", "--upload-pack=x", ""), errdefs.IsInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			header := sign(tc.host, tc.body, secret, now)
			p, err := tc.host.Read(header, []byte(tc.body), []string{"another secret!!", secret}, now)
			if !tc.want(err) {
				t.Fatal(err)
			}
			if err == nil {
				want := Push{p.ID, "acme/app", "https://git.example.com/acme/app.git", "refs/heads/main", commit, "ann"}
				if diff := cmp.Diff(p, want); diff != "" || len(p.ID) != 64 {
					t.Errorf("-got +want:\n%s", diff)
				}
			}
			if _, err := tc.host.Read(header, []byte(tc.body), []string{"another secret!!"}, now); !errors.Is(err, ErrSignature) || !errdefs.IsUnauthorized(err) {
				t.Errorf("by another secret: %v", err)
			}
			if _, err := tc.host.Read(http.Header{}, []byte(tc.body), []string{secret}, now); !errors.Is(err, ErrSignature) {
				t.Errorf("unsigned: %v", err)
			}
		})
	}
}

func TestPing(t *testing.T) {
	body := `{"zen":"Keep it logically awesome."}`
	h := sign(GitHub, body, secret, time.Now())
	h.Set("X-GitHub-Event", "ping")
	if _, err := GitHub.Read(h, []byte(body), []string{secret}, time.Now()); !errors.Is(err, ErrIgnored) {
		t.Error(err)
	}
}

func TestCheckSecret(t *testing.T) {
	for s, ok := range map[string]bool{"": false, "short": false, secret: true, "whsec_" + base64.StdEncoding.EncodeToString([]byte(secret)): true, "whsec_!!!!!!!!!!!!!!!!": false} {
		if err := CheckSecret(s); (err == nil) != ok {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// Bytes from outside are refused or read, and never believed without the secret.
func FuzzRead(f *testing.F) {
	f.Add("github", `{"ref":"refs/heads/main","after":"`+commit+`","repository":{"full_name":"a","clone_url":"b"}}`)
	f.Add("gitlab", `{"object_kind":"push","checkout_sha":null}`)
	f.Fuzz(func(t *testing.T, host, body string) {
		h, now := Host(host), time.Now()
		if p, err := h.Read(sign(h, body, secret, now), []byte(body), []string{secret}, now); err == nil && (p.Commit == "" || p.Repository == "") {
			t.Errorf("%+v", p)
		}
		if _, err := h.Read(sign(h, body, secret, now), []byte(body), []string{secret + "x"}, now); !errors.Is(err, ErrSignature) {
			t.Errorf("believed: %v", err)
		}
	})
}
