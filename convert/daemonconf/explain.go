package daemonconf

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// State is what becomes of a key.
type State string

// Ignored keys are passed over by the daemon, which goes on without them. Deprecated ones
// count, until a later version. Moved ones count and are migrated at each start.
const (
	Ignored    State = "ignored"
	Deprecated State = "deprecated"
	Moved      State = "moved"
)

// Finding is something that somebody should know of a configuration.
type Finding struct {
	File  string `json:"file"`
	Line  int    `json:"line"`
	Key   string `json:"key"`
	State State  `json:"state"`
	Says  string `json:"says"`
}

func (f Finding) String() string {
	return fmt.Sprintf("%s:%d: %s is %s: %s", f.File, f.Line, f.Key, f.State, f.Says)
}

// Means says of which containerd the file's version is, and what the others do with it.
func (f *File) Means() string {
	what, known := versions[f.Version]
	switch {
	case !known:
		return fmt.Sprintf("version %d: later than containerd 2.4 has, which refuses it", f.Version)
	case f.Version < newest:
		return fmt.Sprintf("version %d: %s. containerd 2 reads it, and migrates it at each start", f.Version, what)
	}
	return fmt.Sprintf("version %d: %s", f.Version, what)
}

// Findings are what there is to know of the keys, in the order of the files. A key that has
// the value of none at all says nothing.
func (c *Config) Findings() []Finding {
	all := []Finding{}
	for _, f := range c.Files {
		for _, k := range f.keys {
			r := ruleOf(f.canonical(k.path))
			if r == nil || r.now == "" || k.zero() {
				continue
			}
			state, says := r.of(f.Version)
			if state != Ignored && r.beside != "" && !f.has(rule{key: r.beside}) {
				state, says = Ignored, fmt.Sprintf("containerd 2.4 loses it as it migrates, for nothing is set of %s; move it to %s", r.beside, r.now)
			}
			all = append(all, Finding{f.Path, f.line(k.key.from), dotted(k.path), state, says})
		}
	}
	return all
}

// of is what becomes of a key of the rule in a file of a version.
func (r rule) of(version int) (State, string) {
	switch {
	case r.gone != "" && r.gone != announced:
		return Ignored, fmt.Sprintf("containerd %s and later do not know it; use %s", r.gone, r.now)
	case r.until != 0 && version > r.until:
		return Ignored, fmt.Sprintf("version %d has it elsewhere; use %s", version, r.now)
	case version < r.from:
		return Ignored, fmt.Sprintf("containerd 2.4 loses it as it migrates from version %d; use %s", version, r.now)
	case r.gone != "":
		return Deprecated, fmt.Sprintf("since containerd %s, and gone in %s; use %s", r.since, r.gone, r.now)
	case r.since != "":
		return Deprecated, fmt.Sprintf("since containerd %s; use %s", r.since, r.now)
	}
	return Moved, "to " + r.now
}

// canonical is a key's path with the names that later versions give plugins.
func (f *File) canonical(keys []string) []string {
	if f.Version > 1 || len(keys) < 2 || keys[0] != "plugins" {
		return keys
	}
	full, ok := shortNames[keys[1]]
	if !ok {
		return keys
	}
	return append([]string{"plugins", full}, keys[2:]...)
}

// has reports whether a key of f falls under the rule.
func (f *File) has(r rule) bool {
	return slices.ContainsFunc(f.keys, func(k setting) bool { return r.matches(f.canonical(k.path)) })
}

// ruleOf is the first rule that a key falls under.
func ruleOf(keys []string) *rule {
	for i, r := range rules {
		if r.matches(keys) {
			return &rules[i]
		}
	}
	return nil
}

func (r rule) matches(keys []string) bool {
	want := split(r.key)
	if len(keys) < len(want) || len(keys) > len(want) && want[len(want)-1] != "*" {
		return false
	}
	for i, w := range want {
		if ok, err := path.Match(w, keys[i]); w != "*" && (!ok || err != nil) { // which a slash is no match for
			return false
		}
	}
	return true
}

// split gives the parts of a key; one in quotes may have dots.
func split(key string) (parts []string) {
	for key != "" {
		part, rest, _ := strings.Cut(key, ".")
		if quoted, ok := strings.CutPrefix(key, `"`); ok {
			part, rest, _ = strings.Cut(quoted, `"`)
			rest = strings.TrimPrefix(rest, ".")
		}
		parts, key = append(parts, part), rest
	}
	return parts
}

// dotted is how a file has a key.
func dotted(keys []string) string {
	parts := make([]string, len(keys))
	for i, k := range keys {
		if parts[i] = k; strings.ContainsAny(k, `./"`) {
			parts[i] = `"` + k + `"`
		}
	}
	return strings.Join(parts, ".")
}
