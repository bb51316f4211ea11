package convert

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Unpinned is a reference without its digest.
func Unpinned(ref string) string {
	i := strings.LastIndexByte(ref, '@')
	if i < 0 || digest.Digest(ref[i+1:]).Validate() != nil {
		return ref
	}
	return ref[:i]
}

// Pinned adds a digest, if there is one, to a reference that has none. docker save's
// archives cannot be opened by digest.
func Pinned(ref string, d digest.Digest) string {
	if d == "" || ref != Unpinned(ref) || strings.HasPrefix(ref, "docker-archive:") {
		return ref
	}
	return ref + "@" + d.String()
}

// IsFile tells references to files from those to registries.
func IsFile(ref string) bool {
	scheme, _, _ := strings.Cut(ref, ":")
	return scheme == "oci" || scheme == "oci-archive" || scheme == "docker-archive"
}

// checkSecret refuses a password in front of a registry's name: args are stored and
// shown. What may be one is not repeated.
func checkSecret(what, ref string) error {
	if IsFile(ref) {
		return nil
	}
	ref = Unpinned(ref)
	if i := strings.LastIndexByte(ref, '@'); i >= 0 {
		return fmt.Errorf("%s \"...%s\": what follows @ is no digest, and credentials belong in docker's config", what, ref[i:])
	}
	return nil
}
