// Package consoletest is who asks a console in tests: an OpenID provider, and a Git host.
package consoletest

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Provider is an OpenID provider, as CI systems have one.
type Provider struct {
	*httptest.Server
	t   *testing.T
	key *rsa.PrivateKey
}

// Audience is that of its tokens.
const Audience = "https://lithify.example.com"

// New starts one that ends with the test.
func New(t *testing.T) *Provider {
	t.Helper()
	p := &Provider{t: t}
	var err error
	if p.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(map[string]any{"issuer": p.URL, "jwks_uri": p.URL + "/keys", "id_token_signing_alg_values_supported": []string{"RS256"}})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: p.key.Public(), KeyID: "k", Algorithm: "RS256", Use: "sig"}}})
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

// Token is one of a job of a repository's main branch, but for what claims say.
func (p *Provider) Token(claims map[string]any) string {
	p.t.Helper()
	body := map[string]any{"iss": p.URL, "aud": Audience, "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(),
		"sub": "repo:acme/app:ref:refs/heads/main", "repository": "acme/app", "ref": "refs/heads/main"}
	maps.Copy(body, claims)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: p.key, KeyID: "k"}}, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(body).Serialize()
	if err != nil {
		p.t.Fatal(err)
	}
	return token
}
