package run

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	restorejob "github.com/lithify/lithify/jobs/restore"
	"github.com/lithify/lithify/restore"
)

// A mount has to be found in the outermost directory that lets it; the names that the machine's
// owner has written are taken as they are.
func TestMountsWithin(t *testing.T) {
	rule := Rule{Mounts: []string{"/srv/web/shared", "/srv/", "/etc/hosts"}}
	for source, want := range map[string]restore.Mount{
		"/srv/web/shared/a":    {Source: "/srv/web/shared/a", Within: "/srv"},
		"/srv/web/shared":      {Source: "/srv/web/shared", Within: "/srv"},
		"/srv/link/../../srv/": {Source: "/srv"},
		"/etc/hosts":           {Source: "/etc/hosts"},
	} {
		want.Target = "/x"
		if diff := cmp.Diff([]restore.Mount{want}, rule.mounts([]restorejob.Mount{{Source: source, Target: "/x"}})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", source, diff)
		}
	}
	if got := Anything.mounts([]restorejob.Mount{{Source: "/srv/a", Target: "/x"}}); got[0].Within != "" {
		t.Errorf("of who may have anything: within %s", got[0].Within)
	}
}
