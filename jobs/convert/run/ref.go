package run

import (
	"strings"

	"github.com/opencontainers/go-digest"
)

// pinned adds a digest to a reference that has none. docker save's archives
// cannot be opened by digest.
func pinned(ref string, d digest.Digest) string {
	if ref != unpinned(ref) || strings.HasPrefix(ref, "docker-archive:") {
		return ref
	}
	return ref + "@" + d.String()
}

// unpinned is the reference without its digest.
func unpinned(ref string) string {
	i := strings.LastIndexByte(ref, '@')
	if i < 0 || digest.Digest(ref[i+1:]).Validate() != nil {
		return ref
	}
	return ref[:i]
}

// isFile tells references to files from those to registries.
func isFile(ref string) bool {
	scheme, _, _ := strings.Cut(ref, ":")
	return scheme == "oci" || scheme == "oci-archive" || scheme == "docker-archive"
}
