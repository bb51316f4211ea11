package registry

import (
	"path"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"
)

// place is a reference taken apart. For a registry (no scheme) path is all of it.
type place struct {
	scheme string
	path   string
	tag    string
	digest digest.Digest
}

func parse(ref string) (place, error) {
	scheme, rest, ok := strings.Cut(ref, ":")
	switch {
	case ok && (scheme == "oci" || scheme == "oci-archive" || scheme == "docker-archive"):
		return parsePath(scheme, rest)
	case strings.HasPrefix(ref, "docker://"):
		ref = strings.TrimPrefix(ref, "docker://")
	}
	if strings.HasPrefix(ref, ".") || strings.HasPrefix(ref, "/") {
		return place{}, invalid("reference %q: a directory is oci:DIR, a file oci-archive:FILE or docker-archive:FILE", Redact(ref))
	}
	if err := checkSecret(ref); err != nil {
		return place{}, err
	}
	if strings.Contains(ref, "://") {
		return place{}, invalid("reference %q: a registry reference is host/repository:tag without a scheme", Redact(ref))
	}
	return place{path: ref}, nil
}

func parsePath(scheme, rest string) (place, error) {
	p := place{scheme: scheme}
	if before, after, ok := cutLast(rest, "@"); ok && scheme != "docker-archive" {
		if d, err := digest.Parse(after); err == nil {
			p.digest, rest = d, before
		}
	}
	volume := volume(rest)
	p.path, p.tag, _ = strings.Cut(rest[len(volume):], ":")
	p.path = volume + p.path
	if p.path == "" {
		return place{}, invalid("reference %q: no path after %s", scheme+":"+rest, scheme)
	}
	return p, nil
}

// volume is the drive or share of Windows that a path begins with. A drive is a letter, but
// for VolumeName, to which the . of .:TAG is one.
func volume(path string) string {
	v := filepath.VolumeName(path)
	if strings.HasPrefix(v, ".:") {
		return ""
	}
	return v
}

// Check says what is wrong with how a reference is written, if anything; it asks
// nobody. What is wrong is errdefs.ErrInvalidArgument.
func Check(ref string) error {
	p, err := parse(ref)
	if err == nil && p.scheme == "" {
		_, err = parseRepository(p.path, false)
	}
	return err
}

// RepositoryName is the repository of a reference to a registry, with its host and spelled
// out: that of debian:12 is index.docker.io/library/debian. A reference to a file has none;
// that, and what is wrong, is errdefs.ErrInvalidArgument.
func RepositoryName(ref string) (string, error) {
	p, err := parse(ref)
	if err != nil {
		return "", err
	}
	if p.scheme != "" {
		return "", invalid("reference %q is to a file, and no registry's", ref)
	}
	r, err := parseRepository(p.path, false)
	if err != nil {
		return "", err
	}
	return r.Context().Name(), nil
}

// SamePlace reports whether two references name one OCI layout, and no tag in the
// second one tells what becomes of it.
func SamePlace(src, dst string) bool {
	s, serr := parse(src)
	d, derr := parse(dst)
	if serr != nil || derr != nil || s.scheme != "oci" || d.scheme != "oci" || d.tag != "" {
		return false
	}
	from, serr := filepath.Abs(s.path)
	to, derr := filepath.Abs(d.path)
	return serr == nil && derr == nil && from == to
}

// Absolute is ref for a process with another working directory: the path of a
// layout or archive made absolute. A reference to a registry is left as it is.
func Absolute(ref string) (string, error) {
	p, err := parse(ref)
	if err != nil || p.scheme == "" {
		return ref, err
	}
	abs, err := filepath.Abs(p.path)
	if err != nil {
		return "", invalid("reference %q: %s", ref, err)
	}
	if strings.Contains(abs[len(filepath.VolumeName(abs)):], ":") {
		return "", invalid("reference %q: the path %s holds a colon, where TAG would begin", ref, abs)
	}
	return placeName(p.scheme, abs, p.tag, p.digest), nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// checkSecret refuses a password that somebody wrote in front of the host, and
// does not repeat it.
func checkSecret(ref string) error {
	whole := ref
	if before, after, ok := cutLast(ref, "@"); ok {
		if _, err := digest.Parse(after); err == nil {
			whole = before
		}
	}
	if _, after, ok := cutLast(whole, "@"); ok {
		return invalid("reference %q: what follows @ is no digest, and credentials belong in docker's config", "...@"+after)
	}
	return nil
}

// parseRepository reads a registry reference that parse let through. Its full name
// can be read again.
func parseRepository(ref string, insecure bool) (name.Reference, error) {
	var opts []name.Option
	if insecure {
		opts = append(opts, name.Insecure)
	}
	r, err := name.ParseReference(ref, opts...)
	if err != nil {
		return nil, invalid("reference %q: %s", ref, err)
	}
	if p := "/" + r.Context().RepositoryStr(); path.Clean(p) != p { // registries and proxies would make another of it
		return nil, invalid("reference %q: its path is not plain", ref)
	}
	// Spelled out, a short name may be longer than a name may be.
	if _, err := name.ParseReference(r.Name(), opts...); err != nil {
		return nil, invalid("reference %q: in full: %s", ref, err)
	}
	return r, nil
}
