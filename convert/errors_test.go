package convert_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
)

// What a registry answers to an upload decides whether the work is done again.
func TestPermanent(t *testing.T) {
	for status, want := range map[int]bool{
		http.StatusUnauthorized:     true,
		http.StatusForbidden:        true,
		http.StatusMethodNotAllowed: true,
		http.StatusNotImplemented:   true,
		http.StatusTooManyRequests:  false,
		http.StatusBadGateway:       false,
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.Method {
			case http.MethodPost:
				w.Header().Set("Retry-After", "60") // not waited for here
				w.WriteHeader(status)
			case http.MethodHead:
				w.WriteHeader(http.StatusNotFound)
			}
		}))
		t.Cleanup(srv.Close)
		dst := must(registry.Create(strings.TrimPrefix(srv.URL, "http://")+"/app:v1", registry.Options{Keychain: authn.NewMultiKeychain()}))(t)
		desc := descOf("application/octet-stream", []byte("layer"))
		err := dst.Push(t.Context(), desc, nil)
		if err == nil || convert.Permanent(err) != want {
			t.Errorf("%d: %v, permanent %v, want %v", status, err, !want, want)
		}
	}
}
