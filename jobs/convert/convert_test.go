package convert_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/jobs/convert"
)

// Args are stored for ever and shown to everybody: a password gets no further than
// the one who typed it, and not into the error either.
func TestPasswordsAreRefused(t *testing.T) {
	pin := "@" + digest.FromString("x").String()
	for _, ref := range []string{
		"bob:hunter2@reg.example.com/debian:12",
		"bob:hunter2@reg.example.com/debian:12" + pin,
		"docker://bob:hunter2@reg.example.com/debian",
		"https://bob:hunter2@reg.example.com/debian",
		"bob:x@hunter2@reg.example.com/debian",
		"bob:hunter2/x@reg.example.com/debian",
		"hunter2@reg.example.com/debian",
	} {
		for what, a := range map[string]convert.Args{
			"source": {Source: ref, Output: convert.Output{Target: "reg.example.com/debian:erofs"}},
			"target": {Source: "debian:12", Output: convert.Output{Target: ref}},
			"ledger": {Source: "debian:12", Output: convert.Output{Target: "reg.example.com/debian:erofs", LedgerRepo: ref}},
		} {
			_, err := jobs.New(a, jobs.Options{})
			if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), what) {
				t.Errorf("%s %s: %v, want a refusal without the password", what, ref, err)
			}
		}
	}
	for _, ref := range []string{"debian:12", "debian:12" + pin, "oci:/var/a@b:1", "oci-archive:a@b.tar" + pin, "docker-archive:a@b.tar:x"} {
		if _, err := jobs.New(convert.Args{Source: ref, Output: convert.Output{Target: "oci:/var/a@b:erofs"}}, jobs.Options{}); err != nil {
			t.Errorf("source %s: %v", ref, err)
		}
	}
}

func TestHosts(t *testing.T) {
	for _, tc := range []struct {
		source, target string
		want           []string
	}{
		{"debian:12", "reg.example.com/debian:erofs", []string{"index.docker.io", "reg.example.com"}},
		{"reg.example.com/debian:12", "reg.example.com/debian:erofs", []string{"reg.example.com"}},
		{"oci-archive:/a/b.tar", "reg.example.com/debian:erofs", []string{"reg.example.com"}},
		{"docker-archive:b.tar:x", "oci:/a/b.c:x", nil},
	} {
		got := convert.Args{Source: tc.source, Output: convert.Output{Target: tc.target}}.Hosts()
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s to %s (-want +got):\n%s", tc.source, tc.target, diff)
		}
	}
}
