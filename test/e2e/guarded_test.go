//go:build linux

package e2e_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// canary is in every password here, and may be nowhere else.
const canary = "c4n4ryb1rd"

// password is that of robot at a registry with basic authentication.
const (
	password = "pa55+/" + canary + "=="
	htpasswd = "robot:$2a$04$Kgdnd1D3pJtqJbYz7X9snOc7aJlGvotAWhcc9L4QZpNq8qqXSIYmq\n"
)

// startBasicRegistry runs a registry that robot may read and write.
func startBasicRegistry(t *testing.T, dir string) (address string, p *process) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(file, []byte(htpasswd), 0o600); err != nil {
		t.Fatal(err)
	}
	return runRegistry(t, dir, fmt.Sprintf("auth: {htpasswd: {realm: test, path: %q}}\n", file))
}

// user is somebody whom a token server knows.
type user struct {
	password string
	repos    []string // that may be read and written: path.Match's patterns
}

// tokens is the token server of a registry.
type tokens struct {
	users map[string]user
	key   ed25519.PrivateKey

	mu     sync.Mutex
	issued []string
}

// startTokenRegistry runs a registry that asks for tokens, and their server.
func startTokenRegistry(t *testing.T, dir string, users map[string]user) (address string, s *tokens) {
	t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	s = &tokens{users: users, key: key}
	file := filepath.Join(t.TempDir(), "keys.json")
	keys := fmt.Sprintf(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"test","x":%q}]}`, base64.RawURLEncoding.EncodeToString(public))
	if err := os.WriteFile(file, []byte(keys), 0o600); err != nil {
		t.Fatal(err)
	}
	behind, _ := runRegistry(t, dir, fmt.Sprintf("auth: {token: {realm: none, autoredirect: true, service: test, issuer: test, jwks: %q}}\n", file))
	front := http.NewServeMux() // who asks for tokens wants their server to be the registry's
	front.Handle("/auth/token", s)
	front.Handle("/", proxy(behind, func(*http.Response) {}))
	return hostOf(serveHTTP(t, front)), s
}

// ServeHTTP gives a token for those of the scopes that the user may have. Of a wrong
// password it is careless enough to say which it was.
func (s *tokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet { // OAuth2's way, which not every server knows
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	name, given, _ := r.BasicAuth()
	if u, known := s.users[name]; name != "" && (!known || u.password != given) {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, `{"errors":[{"code":"UNAUTHORIZED","message":"%s is not the password of %s, header %s"}]}`, given, name, r.Header.Get("Authorization"))
		return
	}
	access := []map[string]any{}
	for _, scope := range strings.Fields(strings.Join(r.URL.Query()["scope"], " ")) {
		part := strings.Split(scope, ":")
		if len(part) == 3 && s.users[name].may(part[1]) {
			access = append(access, map[string]any{"type": part[0], "name": part[1], "actions": strings.Split(part[2], ",")})
		}
	}
	now := time.Now().Unix()
	token := s.sign(map[string]any{"iss": "test", "aud": "test", "sub": name, "nbf": now, "iat": now, "exp": now + 3600, "access": access})
	s.mu.Lock()
	s.issued = append(s.issued, token)
	s.mu.Unlock()
	json.NewEncoder(w).Encode(map[string]string{"token": token})
}

func (u user) may(repo string) bool {
	return slices.ContainsFunc(u.repos, func(pattern string) bool {
		ok, err := path.Match(pattern, repo)
		return ok && err == nil
	})
}

// sign makes a JSON Web Token.
func (s *tokens) sign(claims map[string]any) string {
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			panic(err) // of maps of strings and numbers
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	text := part(map[string]string{"alg": "EdDSA", "typ": "JWT", "kid": "test"}) + "." + part(claims)
	return text + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(s.key, []byte(text)))
}

// all are the tokens that were given.
func (s *tokens) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.issued)
}

// dockerConfig is the DOCKER_CONFIG of somebody who is logged in to hosts.
func dockerConfig(t *testing.T, name string, passwords map[string]string) (dir string) {
	t.Helper()
	auths := map[string]map[string]string{}
	for host, p := range passwords {
		auths[host] = map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(name + ":" + p))}
	}
	b, err := json.Marshal(map[string]any{"auths": auths})
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
