package restore_test

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/restore"
)

// What a container is told is lines, and none of them brings another.
func TestIdentityRefused(t *testing.T) {
	for want, change := range map[string]func(*restore.Options){
		"":                   func(o *restore.Options) { o.Clone = "2/30" },
		`clone "1/2\nA=b"`:   func(o *restore.Options) { o.Clone = "1/2\nA=b" },
		`clone "1/2\n"`:      func(o *restore.Options) { o.Clone = "1/2\n" },
		"name of the contai": func(o *restore.Options) { o.Name = "web\nA=b" },
		"variable 1":         func(o *restore.Options) { o.Env = []string{"A=b\nC=d"} },
		`secret "a\nb"`:      func(o *restore.Options) { o.Secrets = []restore.Secret{{ID: "a\nb"}} },
	} {
		o := restore.Options{Name: "web", Clone: "1/2", Env: []string{"A=b"}}
		change(&o)
		if err := o.Validate(); (err == nil) != (want == "") || err != nil && (!errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%+v: got %v, want %q", o, err, want)
		}
	}
}
