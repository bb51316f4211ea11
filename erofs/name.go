package erofs

import (
	"fmt"
	"strings"
)

const (
	maxName = 255 // NAME_MAX
	// maxTarget is the longest target of a symbolic link that readlink gives.
	maxTarget = 4095

	whiteout       = ".wh."
	whiteoutMeta   = ".wh..wh."
	whiteoutOpaque = ".wh..wh..opq"
	// aufsLinks holds the files that AUFS hard links point to.
	aufsLinks = ".wh..wh.plnk/"
)

// cleanName makes a name of the tar relative to the root, without "." and empty
// components; "" is the root, which may be spelt "/". why is set for a name that is refused.
func cleanName(s string, max int64) (name, why string) {
	switch {
	case s == "":
		return "", "it has no name"
	case strings.Trim(s, "/") == "": // umoci's and kaniko's name for the root itself
		return "", ""
	case s[0] == '/':
		return "", "the name is absolute; make it relative to the layer's root"
	case int64(len(s)) > max:
		return "", fmt.Sprintf("the name is longer than %d bytes", max)
	}
	return cleanPath(s)
}

// cleanTarget is cleanName for the target of a hard link, which may begin with
// a slash.
func cleanTarget(s string, max int64) (name, why string) {
	if int64(len(s)) > max {
		return "", fmt.Sprintf("the hard link's target is longer than %d bytes", max)
	}
	name, why = cleanPath(s)
	if why == "" && name == "" {
		why = "the hard link has no target"
	}
	return name, why
}

func cleanPath(s string) (name, why string) {
	clean := true
	for part := range strings.SplitSeq(s, "/") {
		switch {
		case part == "..":
			return "", "\"..\" in a name; resolve it when the layer is made"
		case part == "" || part == ".":
			clean = false
		case len(part) > maxName:
			return "", "a name is longer than 255 bytes"
		}
	}
	if clean {
		return s, ""
	}
	parts := strings.Split(s, "/")
	kept := parts[:0]
	for _, part := range parts {
		if part != "" && part != "." {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, "/"), ""
}

// splitName cuts a clean name into its directory, "" for the root, and base.
func splitName(name string) (dir, base string) {
	i := strings.LastIndexByte(name, '/')
	return name[:max(i, 0)], name[i+1:]
}

// isJunk reports whether a name is AUFS' own: a component begins with .wh..wh.
// and is not an opaque mark.
func isJunk(name string) bool {
	dir, base := splitName(name)
	return strings.HasPrefix(dir, whiteoutMeta) || strings.Contains(dir, "/"+whiteoutMeta) ||
		strings.HasPrefix(base, whiteoutMeta) && base != whiteoutOpaque
}

// belowWhiteout reports whether a directory of the name is a whiteout.
func belowWhiteout(dir string) bool {
	return strings.HasPrefix(dir, whiteout) || strings.Contains(dir, "/"+whiteout)
}
