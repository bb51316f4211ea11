package console

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// below at the end of a pattern is all that begins with what stands before it.
const below = "/**"

// matches reports whether s is as a pattern says: one of path.Match, whose * stops at a
// slash, perhaps with /** at its end, for everything below.
func matches(pattern, s string) bool {
	prefix, deep := strings.CutSuffix(pattern, below)
	if deep {
		parts, n := strings.Split(s, "/"), strings.Count(prefix, "/")+1
		if len(parts) <= n {
			return false
		}
		pattern, s = prefix, strings.Join(parts[:n], "/")
	}
	ok, err := path.Match(pattern, s)
	return ok && err == nil
}

// matchesRepository is matchesAny for repositories. Docker Hub's may be called by either name.
func matchesRepository(patterns []string, repo string) bool {
	hub, ok := strings.CutPrefix(repo, name.DefaultRegistry+"/")
	return matchesAny(patterns, repo) || ok && matchesAny(patterns, "docker.io/"+hub)
}

func matchesAny(patterns []string, s string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, s) })
}

func checkPatterns(patterns ...string) error {
	for _, p := range patterns {
		q := strings.TrimSuffix(p, below)
		if _, err := path.Match(q, ""); err != nil || p == "" || strings.Contains(q, "**") {
			return fmt.Errorf("pattern %q: want one of Go's path.Match, or one that ends with /** for everything below", p)
		}
	}
	return nil
}
