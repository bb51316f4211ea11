package queue_test

import (
	"flag"
	"io"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/queue"
)

func TestWhere(t *testing.T) {
	n := queue.Node{Node: "node-1", Host: "h", OS: "linux", Arch: "amd64", Labels: queue.Labels{"zone": "a", "disk": "fast"}}
	for s, want := range map[string]bool{
		"zone=a":           true,
		"zone=b":           false,
		"zone!=a":          false,
		"zone!=b":          true,
		"rack=7":           false,
		"rack!=7":          true,
		"zone=a,disk=fast": true,
		"zone=a,disk=slow": false,
		"arch=amd64":       true,
		"os=windows":       false,
		"node!=node-1":     false,
		"host=h":           true,
	} {
		w, err := queue.ParseWhere(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := w.Of(n); got != want {
			t.Errorf("%s: %v, want %v", s, got, want)
		}
	}
	for _, bad := range []string{"", "zone", "zone=", "=a", "zone==a", "zone=a,", "zone=a b", "!=a", "zo!ne=a"} {
		if w, err := queue.ParseWhere(bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v, %v", bad, w, err)
		}
	}
}

func TestLabels(t *testing.T) {
	parse := func(args ...string) (l queue.Labels, err error) {
		fs := flag.NewFlagSet("", flag.ContinueOnError)
		fs.SetOutput(io.Discard)
		fs.Var(&l, "label", "")
		err = fs.Parse(args)
		return l, err
	}
	if l, err := parse("--label", "zone=a", "--label=disk=fast", "--label", "zone=b"); err != nil || l.String() != "disk=fast,zone=b" {
		t.Errorf("%v, %v", l, err)
	}
	if l, err := parse("--label", "zone=a,disk=fast"); err != nil || l.String() != "disk=fast,zone=a" {
		t.Errorf("of a file: %v, %v", l, err)
	}
	for bad, want := range map[string]string{"zone": "KEY=VALUE", "zone=": "KEY=VALUE", "zone=a,b": "KEY=VALUE", "a!=b": "KEY=VALUE", "os=plan9": "by itself"} {
		if _, err := parse("--label", bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want a word of %s", bad, err, want)
		}
	}
}
