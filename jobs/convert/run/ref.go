package run

import (
	"strings"

	convertjob "github.com/lithify/lithify/jobs/convert"
	"github.com/opencontainers/go-digest"
)

// pinned adds a digest to a reference that has none. docker save's archives
// cannot be opened by digest.
func pinned(ref string, d digest.Digest) string {
	if ref != convertjob.Unpinned(ref) || strings.HasPrefix(ref, "docker-archive:") {
		return ref
	}
	return ref + "@" + d.String()
}

// sourceRef is what a job's source is opened by.
func sourceRef(a convertjob.Args) string {
	if a.SourceDigest == "" {
		return a.Source
	}
	return pinned(a.Source, a.SourceDigest)
}
