package layer_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/lithify/lithify/jobs/layer"
)

// A host is limited by the name under which it is asked: the one that
// go-containerregistry makes of the reference.
func TestHostsAreThoseOfRequests(t *testing.T) {
	for _, ref := range []string{
		"debian", "debian:12", "library/debian", "docker.io/library/debian:12", "index.docker.io/library/debian",
		"reg.example.com/debian", "reg.example.com:5000/a/b:v1", "127.0.0.1:5000/app", "localhost:5000/app", "localhost/app",
		"docker://reg.example.com/app:v1", "reg.example.com/app@sha256:" + strings.Repeat("0", 64),
	} {
		want, err := name.ParseReference(strings.TrimPrefix(ref, "docker://"))
		if err != nil {
			t.Fatal(err)
		}
		if got := layer.RegistryHosts(ref); len(got) != 1 || got[0] != want.Context().RegistryStr() {
			t.Errorf("%s: got %s, want %s", ref, got, want.Context().RegistryStr())
		}
	}
	a := layer.Args{Source: "reg.example.com/b", Ledger: "a.example.com/lithify/ledger"}
	if diff := cmp.Diff([]string{"a.example.com", "reg.example.com"}, a.Hosts()); diff != "" {
		t.Errorf("hosts of a layer (-want +got):\n%s", diff)
	}
	a.Ledger = "reg.example.com/lithify/ledger"
	if diff := cmp.Diff([]string{"reg.example.com"}, a.Hosts()); diff != "" {
		t.Errorf("hosts of a layer in one registry (-want +got):\n%s", diff)
	}
}
