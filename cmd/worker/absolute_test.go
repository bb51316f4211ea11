package main

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAbsolute(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(here, name) }
	for name, c := range map[string]struct{ args, want []string }{
		"none":               {nil, nil},
		"behind":             {[]string{"--nkey", "a.nk", "-creds", "b"}, []string{"--nkey", in("a.nk"), "-creds", in("b")}},
		"inside":             {[]string{"--ledger-key=a.pem", "-config=../b.yaml"}, []string{"--ledger-key=" + in("a.pem"), "-config=" + filepath.Join(filepath.Dir(here), "b.yaml")}},
		"absolute":           {[]string{"--nkey", in("a.nk")}, []string{"--nkey", in("a.nk")}},
		"no paths":           {[]string{"--nats", "nats://n", "--name=x", "--containerd", "pipe"}, []string{"--nats", "nats://n", "--name=x", "--containerd", "pipe"}},
		"behind a switch":    {[]string{"--verbose", "--temp-dir", "t", "--deny-private=false", "--nkey", "n"}, []string{"--verbose", "--temp-dir", in("t"), "--deny-private=false", "--nkey", in("n")}},
		"a value like a one": {[]string{"--name", "--nkey", "--nkey", "n"}, []string{"--name", "--nkey", "--nkey", in("n")}},
		"again":              {[]string{"--restore-key", "a", "--restore-key", "b"}, []string{"--restore-key", in("a"), "--restore-key", in("b")}},
		"empty":              {[]string{"--temp-dir", "", "--nkey="}, []string{"--temp-dir", "", "--nkey="}},
		"behind the flags":   {[]string{"--", "--nkey", "a"}, []string{"--", "--nkey", "a"}},
		"an argument":        {[]string{"more", "--nkey", "a"}, []string{"more", "--nkey", "a"}},
		"unknown":            {[]string{"--nkye", "a"}, []string{"--nkye", "a"}},
		"unfinished":         {[]string{"--nkey"}, []string{"--nkey"}},
	} {
		t.Run(name, func(t *testing.T) {
			var o options
			fs, _ := o.flags()
			got, err := absolute(fs, c.args)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A flag that says that it is a file is one of those whose paths are made absolute.
func TestPathFlags(t *testing.T) {
	var o options
	fs, _ := o.flags()
	// Of Linux alone, and lists.
	lists := []string{"restore-cni-bin-dirs", "restore-mounts"}
	addresses := []string{"containerd", "buildkit"}
	says := regexp.MustCompile(`\bfile with\b|\bYAML file\b|^(directory|where)\b|\bin this directory\b`)
	var got []string
	fs.VisitAll(func(f *flag.Flag) {
		if says.MatchString(f.Usage) && !slices.Contains(slices.Concat(lists, addresses), f.Name) {
			got = append(got, f.Name)
		}
	})
	want := slices.Sorted(slices.Values(pathFlags))
	if diff := cmp.Diff(strings.Join(want, "\n"), strings.Join(got, "\n")); diff != "" {
		t.Errorf("flags that say they are files (-listed +said):\n%s", diff)
	}
}
