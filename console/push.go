package console

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/console/webhook"
	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/jobs/all"
)

// job is what the rule makes of a push. The same push is the same job, however often it
// is posted.
func (r PushRule) job(p webhook.Push, key string) (jobs.Job, error) {
	values := pushValues(p)
	var unknown []string
	expanded := expand(r.Submit.Args, func(name string) string {
		v, ok := values[name]
		if !ok || strings.ContainsAny(v, `,"`) { // which would be more than a part of some fields
			unknown = append(unknown, "$"+name)
		}
		return v
	})
	if len(unknown) > 0 {
		return jobs.Job{}, fmt.Errorf("%s: a push does not say that, or with a comma or a quote: %w", strings.Join(unknown, ", "), errdefs.ErrInvalidArgument)
	}
	raw, err := json.Marshal(expanded)
	if err != nil {
		return jobs.Job{}, err
	}
	args, err := all.Decode(r.Submit.Kind, raw)
	if err != nil {
		return jobs.Job{}, err
	}
	return jobs.New(args, jobs.Options{IdempotencyKey: key, Tenant: r.Submit.Tenant, Priority: r.Submit.Priority, Timeout: r.Submit.Timeout,
		Submitter: strings.TrimSpace("push by " + p.Pusher)})
}

// pushValues are what the strings of a submission may name.
func pushValues(p webhook.Push) map[string]string {
	branch, _ := strings.CutPrefix(p.Ref, "refs/heads/")
	tag, isTag := strings.CutPrefix(p.Ref, "refs/tags/")
	if isTag {
		branch = ""
	} else {
		tag = ""
	}
	return map[string]string{
		"repository": p.Repository, "url": p.CloneURL, "ref": p.Ref, "branch": branch, "tag": tag,
		"name": imageTag(branch + tag), "base": path.Base(p.Repository), "commit": p.Commit, "short": p.Commit[:12],
	}
}

// imageTag is a branch or tag as an image's tag may be: other characters become -.
func imageTag(name string) string {
	name = notInTag.ReplaceAllString(name, "-")
	if strings.HasPrefix(name, "-") || strings.HasPrefix(name, ".") { // and never that of another branch
		name = "_" + name[1:]
	}
	return name[:min(len(name), maxTag)]
}

// maxTag is the distribution spec's.
const maxTag = 128

var notInTag = regexp.MustCompile(`[^A-Za-z0-9_.-]`)

// expand replaces names in the strings of v, which is as YAML decodes it, so that what
// a push says never becomes anything but part of a string.
func expand(v any, value func(string) string) any {
	switch v := v.(type) {
	case string:
		return os.Expand(v, value)
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = expand(x, value)
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for k, x := range v {
			out[k] = expand(x, value)
		}
		return out
	}
	return v
}
