package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

const (
	// minSecret bounds what can be guessed.
	minSecret = 16
	// skew is how old or how far ahead a post may be that says when it was made.
	skew = 5 * time.Minute
	// standardPrefix is how secrets of Standard Webhooks begin.
	standardPrefix = "whsec_"
)

// CheckSecret reports what a host's secret may not be.
func CheckSecret(s string) error {
	if key, ok := strings.CutPrefix(s, standardPrefix); ok {
		b, err := base64.StdEncoding.DecodeString(key)
		if err != nil {
			return fmt.Errorf("secret begins with %s and is no base64 behind it: %w", standardPrefix, errdefs.ErrInvalidArgument)
		}
		s = string(b)
	}
	if len(s) < minSecret {
		return fmt.Errorf("secret has %d bytes, want at least %d: %w", len(s), minSecret, errdefs.ErrInvalidArgument)
	}
	return nil
}

// signed reports whether a post was made by somebody who knows the secret.
func (h Host) signed(header http.Header, body []byte, secret string, now time.Time) bool {
	switch h {
	case GitHub:
		sum, ok := strings.CutPrefix(header.Get("X-Hub-Signature-256"), "sha256=")
		return ok && isHex(mac([]byte(secret), body), sum)
	case Gitea:
		return isHex(mac([]byte(secret), body), first(header, "X-Forgejo-Signature", "X-Gitea-Signature"))
	case GitLab:
		if key, ok := strings.CutPrefix(secret, standardPrefix); ok {
			return standard(header, body, key, now)
		}
		return same([]byte(header.Get("X-Gitlab-Token")), []byte(secret))
	}
	return false
}

// standard checks a signature of Standard Webhooks (https://www.standardwebhooks.com),
// as GitLab makes them with a signing token.
func standard(h http.Header, body []byte, key string, now time.Time) bool {
	k, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		return false
	}
	id, at := h.Get("webhook-id"), h.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil || id == "" || now.Sub(time.Unix(seconds, 0)).Abs() > skew {
		return false
	}
	want := mac(k, fmt.Appendf(nil, "%s.%s.%s", id, at, body))
	for s := range strings.FieldsSeq(h.Get("webhook-signature")) {
		sum, ok := strings.CutPrefix(s, "v1,")
		if got, err := base64.StdEncoding.DecodeString(sum); ok && err == nil && hmac.Equal(got, want) {
			return true
		}
	}
	return false
}

func mac(key, msg []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(msg)
	return h.Sum(nil)
}

func isHex(want []byte, got string) bool {
	b, err := hex.DecodeString(got)
	return err == nil && hmac.Equal(b, want)
}

// same compares in a time that depends on neither.
func same(a, b []byte) bool {
	x, y := sha256.Sum256(a), sha256.Sum256(b)
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
