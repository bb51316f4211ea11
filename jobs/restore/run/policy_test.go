package run_test

import (
	"flag"
	"io"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	restorejob "github.com/lithify/lithify/jobs/restore"
	"github.com/lithify/lithify/jobs/restore/run"
)

// What a worker does not let a checkpoint become is refused before anybody is asked for
// anything: neither the registry nor containerd of these jobs is there.
func TestPolicy(t *testing.T) {
	const web, mine = "r.example.com/saved/web:1", "--restore-from=r.example.com/saved/"
	mount := func(source string) []restorejob.Mount {
		return []restorejob.Mount{{Source: source, Target: "/x"}}
	}
	for _, tc := range []struct {
		name   string
		flags  []string
		args   restorejob.Args
		denied string // the flag that the error names
	}{
		{"below a repository", []string{mine}, restorejob.Args{Source: web}, ""},
		{"the repository", []string{"--restore-from=a.example.com/b,r.example.com/saved/web"}, restorejob.Args{Source: web}, ""},
		{"any", []string{"--restore-from=*"}, restorejob.Args{Source: web}, ""},
		{"another", []string{mine}, restorejob.Args{Source: "r.example.com/savedby/me:1"}, "--restore-from"},
		{"a repository is not those below", []string{"--restore-from=r.example.com/saved"}, restorejob.Args{Source: web}, "--restore-from"},
		{"a file", []string{mine}, restorejob.Args{Source: "oci:/r.example.com/saved/web"}, "--restore-from"},
		{"network", []string{mine}, restorejob.Args{Source: web, Network: "host"}, "--restore-host-network"},
		{"network allowed", []string{mine, "--restore-host-network"}, restorejob.Args{Source: web, Network: "host"}, ""},
		{"network from CNI", []string{mine}, restorejob.Args{Source: web, Network: "cni"}, "--restore-cni"},
		{"network from CNI allowed", []string{mine, "--restore-cni"}, restorejob.Args{Source: web, Network: "cni"}, ""},
		{"mount", []string{mine}, restorejob.Args{Source: web, Mounts: mount("/srv")}, "--restore-mounts"},
		{"mount allowed", []string{mine, "--restore-mounts=/etc/hosts,/srv"}, restorejob.Args{Source: web, Mounts: mount("/srv/web")}, ""},
		{"mount beside", []string{mine, "--restore-mounts=/srv"}, restorejob.Args{Source: web, Mounts: mount("/srv/../etc")}, "--restore-mounts"},
		{"mount of a like name", []string{mine, "--restore-mounts=/srv"}, restorejob.Args{Source: web, Mounts: mount("/srv2")}, "--restore-mounts"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var c run.Config
			fs := flag.NewFlagSet("", flag.ContinueOnError)
			c.AddFlags(fs)
			if err := fs.Parse(tc.flags); err != nil {
				t.Fatal(err)
			}
			h, err := c.Handler("/nonexistent/containerd.sock")
			if err != nil {
				t.Fatal(err)
			}
			tc.args.Name = "web-2"
			_, err = h.Run(t.Context(), tc.args)
			if got := errdefs.IsPermissionDenied(err); got != (tc.denied != "") || !strings.Contains(err.Error(), tc.denied) {
				t.Errorf("got %v, want denied by %q", err, tc.denied)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	for want, flags := range map[string][]string{
		"needs --containerd": {"--restore-from=*"},
		"empty name":         {"--restore-from=a,"},
		"absolute paths":     {"--restore-from=*", "--restore-mounts=srv"},
	} {
		var c run.Config
		fs := flag.NewFlagSet("", flag.ContinueOnError)
		fs.SetOutput(io.Discard)
		c.AddFlags(fs)
		if err := fs.Parse(flags); err != nil {
			t.Fatal(err)
		}
		address := "/run/c.sock"
		if strings.Contains(want, "containerd") {
			address = ""
		}
		if _, err := c.Handler(address); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want an error with %q", flags, err, want)
		}
	}
	if h, err := (run.Config{}).Handler(""); h != nil || err != nil {
		t.Errorf("without repositories: %v, %v, want nothing", h, err)
	}
}
