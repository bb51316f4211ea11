// Package webhook reads what Git hosts post when somebody pushes.
//
// A post counts only if it is signed, or carries the token, as its host does it; it is
// checked over the bytes as they came, before they are parsed.
package webhook

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// Host is a kind of Git host.
type Host string

const (
	GitHub Host = "github" // https://docs.github.com/en/webhooks/webhook-events-and-payloads#push
	GitLab Host = "gitlab" // https://docs.gitlab.com/user/project/integrations/webhook_events/#push-events
	Gitea  Host = "gitea"  // and Forgejo: https://docs.gitea.com/usage/webhooks
)

// Hosts are all.
var Hosts = []Host{GitHub, GitLab, Gitea}

// MaxBody bounds a post, in bytes. Hosts cut their lists of commits far below it.
const MaxBody = 1 << 20

// Push says that a branch or tag is at another commit now.
type Push struct {
	ID         string // of this event: that of the same post is the same
	Repository string // its full name, as acme/app
	CloneURL   string // by https, as the host says
	Ref        string // refs/heads/main, refs/tags/v1
	Commit     string // what it is at: 40 or 64 hexadecimal digits
	Pusher     string // for people
}

var (
	// ErrSignature is errdefs.ErrUnauthorized: whoever posted does not have the secret.
	ErrSignature = fmt.Errorf("signature is missing or wrong: %w", errdefs.ErrUnauthenticated)
	// ErrIgnored is of a post that is genuine and no push: a ping, a deleted branch.
	ErrIgnored = errors.New("not a push of commits")
)

// Read checks a post by secrets, any of which may have signed it (two, while one is
// replaced by the other), and reads it. What is genuine but makes no sense is
// errdefs.ErrInvalidArgument.
func (h Host) Read(header http.Header, body []byte, secrets []string, now time.Time) (Push, error) {
	genuine := false
	for _, s := range secrets {
		genuine = h.signed(header, body, s, now) || genuine
	}
	if !genuine {
		return Push{}, ErrSignature
	}
	p, err := h.parse(header, body)
	if err != nil {
		return Push{}, err
	}
	return p, p.check()
}

// payload is the part of the hosts' push events that matters. Gitea's are as GitHub's.
type payload struct {
	Ref     string `json:"ref"`
	Deleted bool   `json:"deleted"`

	After      string `json:"after"`
	Repository struct {
		FullName string `json:"full_name"`
		CloneURL string `json:"clone_url"`
	} `json:"repository"`
	Pusher struct {
		Name  string `json:"name"`
		Login string `json:"login"`
	} `json:"pusher"`

	Kind        string `json:"object_kind"` // this and what follows are GitLab's
	CheckoutSHA string `json:"checkout_sha"`
	UserName    string `json:"user_username"`
	Project     struct {
		Path     string `json:"path_with_namespace"`
		CloneURL string `json:"git_http_url"`
	} `json:"project"`
}

func (h Host) parse(header http.Header, body []byte) (Push, error) {
	var in payload
	if err := json.Unmarshal(body, &in); err != nil {
		return Push{}, fmt.Errorf("body: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	sum := sha256.Sum256(body)
	p := Push{ID: hex.EncodeToString(sum[:]), Repository: in.Repository.FullName, CloneURL: in.Repository.CloneURL,
		Ref: in.Ref, Commit: in.After, Pusher: in.Pusher.Name}
	switch h {
	case GitLab:
		if in.Kind != "push" && in.Kind != "tag_push" {
			return p, ErrIgnored
		}
		p.Repository, p.CloneURL, p.Pusher = in.Project.Path, in.Project.CloneURL, in.UserName
		if p.Commit = in.CheckoutSHA; p.Commit == "" { // null: it was deleted
			return p, ErrIgnored
		}
	case Gitea:
		if first(header, "X-Gitea-Event", "X-Forgejo-Event") != "push" {
			return p, ErrIgnored
		}
		p.Pusher = in.Pusher.Login
	default:
		if header.Get("X-GitHub-Event") != "push" {
			return p, ErrIgnored
		}
	}
	if in.Deleted || strings.Trim(p.Commit, "0") == "" {
		return p, ErrIgnored
	}
	return p, nil
}

// commitID is a commit's, of SHA-1 or SHA-256.
var commitID = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

func (p Push) check() error {
	switch {
	case p.Repository == "" || p.CloneURL == "":
		return fmt.Errorf("push without a repository: %w", errdefs.ErrInvalidArgument)
	case !strings.HasPrefix(p.Ref, "refs/heads/") && !strings.HasPrefix(p.Ref, "refs/tags/"):
		return ErrIgnored
	case !commitID.MatchString(p.Commit):
		return fmt.Errorf("commit %q: %w", p.Commit, errdefs.ErrInvalidArgument)
	}
	return nil
}

func first(h http.Header, names ...string) string {
	for _, n := range names {
		if v := h.Get(n); v != "" {
			return v
		}
	}
	return ""
}
