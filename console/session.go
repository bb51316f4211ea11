package console

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/console/page"
)

// sessionLasts is how long an operator stays logged in: a shift.
const sessionLasts = 12 * time.Hour

// A session of an operator is this prefix, when it ends and a code over that, made with the
// key: any console of the pool that has the key knows it, none keeps it, and the key is not in
// a browser. That of somebody with a token is the token, behind another prefix: it is
// checked each time, and ends when it does.
const (
	operatorSession = "operator."
	tokenSession    = "token."
)

// sessions are who may log in to the page: those with one of the keys, and those with a
// token of an issuer.
type sessions struct {
	keys    []string
	issuers issuers
}

// Login implements page.Auth.
func (s sessions) Login(ctx context.Context, secret string) (session string, lasts time.Duration, err error) {
	if slices.ContainsFunc(s.keys, func(k string) bool { return subtle.ConstantTimeCompare([]byte(k), []byte(secret)) == 1 }) {
		end := strconv.FormatInt(time.Now().Add(sessionLasts).Unix(), 10)
		return operatorSession + end + "." + code(secret, end), sessionLasts, nil
	}
	id, err := s.issuers.check(ctx, secret)
	if err != nil {
		return "", 0, err
	}
	return tokenSession + secret, time.Until(id.expires), nil
}

// Viewer implements page.Auth.
func (s sessions) Viewer(ctx context.Context, session string) (page.Viewer, error) {
	if token, ok := strings.CutPrefix(session, tokenSession); ok {
		id, err := s.issuers.check(ctx, token)
		if err != nil {
			return page.Viewer{}, err
		}
		v := page.Viewer{Name: id.name}
		for _, g := range id.grants {
			v.Tenants = append(v.Tenants, g.Tenant)
		}
		return v, nil
	}
	rest, _ := strings.CutPrefix(session, operatorSession)
	end, sum, _ := strings.Cut(rest, ".")
	unix, err := strconv.ParseInt(end, 10, 64)
	good := slices.ContainsFunc(s.keys, func(k string) bool { return hmac.Equal([]byte(code(k, end)), []byte(sum)) })
	if err != nil || !good || time.Now().Unix() >= unix {
		return page.Viewer{}, fmt.Errorf("the session has ended: %w", errdefs.ErrUnauthenticated)
	}
	return page.Viewer{Name: "operator", Operator: true}, nil
}

// code proves that whoever had the key made a session that ends then.
func code(key, end string) string {
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte("lithify console session\n" + end))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}
