package build_test

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/jobs/build"
	"github.com/lithify/lithify/jobs/convert"
)

func TestValidate(t *testing.T) {
	archive := &build.Archive{Digest: digest.FromString("x"), Size: 1}
	for name, tc := range map[string]struct {
		change func(*build.Args)
		says   string // nothing: it is valid
	}{
		"least":       {func(a *build.Args) {}, ""},
		"archive":     {func(a *build.Args) { a.Context, a.Archive = "", archive }, ""},
		"part":        {func(a *build.Args) { a.Part, a.Platforms = true, []string{"linux/arm64"} }, ""},
		"no context":  {func(a *build.Args) { a.Context = "" }, "a context is required"},
		"two":         {func(a *build.Args) { a.Archive = archive }, "instead"},
		"no size":     {func(a *build.Args) { a.Context, a.Archive = "", &build.Archive{Digest: archive.Digest} }, "a digest and a size"},
		"whole part":  {func(a *build.Args) { a.Part = true }, "one platform"},
		"spread":      {func(a *build.Args) { a.Spread = true }, "which platforms"},
		"broken":      {func(a *build.Args) { a.Context = "https://me:hunter2%zz@example.com/app.git" }, "no URL"},
		"broken port": {func(a *build.Args) { a.Context = "https://me:hunter2@example.com:port/app.git#main" }, "no URL"},
		"broken ssh":  {func(a *build.Args) { a.Context = "ssh://git:hunter2%zz@example.com/app.git" }, "no URL"},
		"password":    {func(a *build.Args) { a.Context = "https://me:hunter2@example.com/app.git" }, "GIT_AUTH_TOKEN"},
		"layout":      {func(a *build.Args) { a.Target = "oci:dir:x" }, "a registry"},
		"secret":      {func(a *build.Args) { a.Secrets = []string{"../key"} }, "../key"},
		"secret list": {func(a *build.Args) { a.Secrets = []string{"a,src=/etc/shadow"} }, "an ID"},
		"frontend":    {func(a *build.Args) { a.BuildArgs = map[string]string{"BUILDKIT_SYNTAX": "x"} }, "frontend"},
		"compression": {func(a *build.Args) { a.Compression = "xz" }, "xz"},
		"cache":       {func(a *build.Args) { a.CacheTo = []string{"reg.example.com/cache"} }, "type=registry"},
		"platform":    {func(a *build.Args) { a.Platforms = []string{"a/b/c/d"} }, "a/b/c/d"},
		"two names":   {func(a *build.Args) { a.Platforms = []string{"linux/arm64", "linux/arm64/v8"} }, "each once"},
		"profile":     {func(a *build.Args) { a.Profile = "squashfs" }, "squashfs"},
	} {
		t.Run(name, func(t *testing.T) {
			a := build.Args{Context: "https://example.com/app.git#v1", Output: convert.Output{Target: "reg.example.com/app:1"}}
			tc.change(&a)
			_, err := jobs.New(a, jobs.Options{})
			if tc.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%v, want a refusal with a word about %s and no password", err, tc.says)
			}
		})
	}
}

// A cache of files or of an account would be the worker's.
func TestCheckPool(t *testing.T) {
	for cache, ok := range map[string]bool{
		"type=registry,ref=reg.example.com/cache,mode=max": true,
		"type=inline":                                    true,
		"type=local,dest=/etc/cron.d":                    false,
		`"type=local",src=/etc`:                          false,
		"TYPE=s3,bucket=b,type=registry,ref=r":           false,
		"type=registry,ref=reg.example.com/c,Type=local": false,
	} {
		for _, a := range []build.Args{{CacheTo: []string{cache}}, {CacheFrom: []string{cache}}} {
			if err := a.CheckPool(); (err == nil) != ok {
				t.Errorf("%s: %v", cache, err)
			}
		}
	}
}
