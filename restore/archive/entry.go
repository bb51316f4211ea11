package archive

import (
	"archive/tar"
	"path"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// place is where an entry of an archive goes.
type place int

const (
	ignore place = iota
	directory
	link     // checkpoint/parent
	metadata // a small file
	payload
)

// files are the names at the top of an archive that are taken, and what they become.
var files = map[string]struct {
	place place
	name  string
}{
	configFile:  {metadata, configFile},
	specFile:    {metadata, specFile},
	statusFile:  {metadata, statusFile},
	deletedFile: {metadata, deletedFile},
	oursFile:    {metadata, oursFile},
	ChangesFile: {payload, ChangesFile},
	ShmFile:     {payload, ShmFile},
	PagesFile:   {payload, PagesFile},
	StatsFile:   {metadata, StatsFile},
	DumpLogFile: {payload, DumpLogFile},
	// Each engine has a name of its own for the container's log; CRI-O's is that of an
	// annotation, which is never looked at.
	LogFile:                       {payload, LogFile},
	"ctr.log":                     {payload, LogFile},
	"io.kubernetes.cri-o.LogPath": {payload, LogFile},
}

// imageName are CRIU's files, and what runc leaves with them.
var imageName = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]*\.(img|log)|descriptors\.json|stats-dump|stats-restore|irmap-cache)$`)

// kinds are what an entry may be and must not.
var kinds = map[byte]string{
	tar.TypeLink:    "a hard link",
	tar.TypeSymlink: "a symbolic link",
	tar.TypeChar:    "a character device",
	tar.TypeBlock:   "a block device",
	tar.TypeFifo:    "a fifo",
}

// locate says where an entry goes, under which name. It refuses what no engine writes.
func locate(hdr *tar.Header, limits Limits) (place, string, error) {
	name, err := cleanName(hdr, limits)
	if err != nil {
		return ignore, "", err
	}
	switch hdr.Typeflag {
	case tar.TypeDir:
		return locateDir(hdr, name)
	case tar.TypeReg:
		return locateFile(hdr, name)
	case tar.TypeSymlink:
		if name == parentLink && strings.TrimSuffix(hdr.Linkname, "/") == parentTarget {
			return link, name, nil
		}
		return ignore, "", refused(hdr.Name, "it is a symbolic link to %q, which would be followed on this machine; the only one in a checkpoint is %s to %s, make the checkpoint anew", hdr.Linkname, parentLink, parentTarget)
	}
	kind, known := kinds[hdr.Typeflag]
	if !known {
		kind = "of an unknown type"
	}
	return ignore, "", refused(hdr.Name, "it is %s, and a checkpoint has regular files and directories alone; make the checkpoint anew", kind)
}

// cleanName is the name without a leading "./" and a trailing slash.
func cleanName(hdr *tar.Header, limits Limits) (string, error) {
	name := hdr.Name
	if int64(len(name)) > limits.Name {
		return "", &LimitError{name[:64] + "...", "bytes of a name", limits.Name}
	}
	if !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) || strings.Contains(name, `\`) {
		return "", refused(name, "its name has bytes that no engine writes; make the checkpoint anew")
	}
	clean := strings.TrimPrefix(name, "./")
	if hdr.Typeflag == tar.TypeDir {
		clean = strings.TrimSuffix(clean, "/")
	}
	if clean == "" || clean == "." {
		if hdr.Typeflag == tar.TypeDir {
			return ".", nil
		}
		return "", refused(name, "it has no name; make the checkpoint anew")
	}
	switch {
	case path.IsAbs(clean):
		return "", refused(name, "its name is absolute; write the archive with names relative to its root")
	case clean == "..", strings.HasPrefix(clean, "../"), path.Clean(clean) != clean:
		return "", refused(name, "its name leads elsewhere than it says; write the archive with plain relative names")
	}
	return clean, nil
}

func locateDir(hdr *tar.Header, name string) (place, string, error) {
	dir, _, below := strings.Cut(name, "/")
	_, isFile := files[name]
	switch {
	case name == ".":
		return ignore, name, nil
	case name == ImagesDir, name == ParentDir:
		return directory, name, nil
	case below && (dir == ImagesDir || dir == ParentDir):
		return ignore, "", refused(hdr.Name, "it is a directory where CRIU has files alone; make the checkpoint anew")
	case isFile:
		return ignore, "", refused(hdr.Name, "it is a directory and should be a file; make the checkpoint anew")
	}
	return ignore, name, nil
}

func locateFile(hdr *tar.Header, name string) (place, string, error) {
	dir, base, below := strings.Cut(name, "/")
	switch {
	case below && (dir == ImagesDir || dir == ParentDir):
		if !imageName.MatchString(base) {
			return ignore, "", refused(hdr.Name, "CRIU makes no file of this name; make the checkpoint anew")
		}
		return payload, name, nil
	case below:
		return ignore, name, nil
	case name == ImagesDir, name == ParentDir:
		return ignore, "", refused(hdr.Name, "it is a file and should be a directory; make the checkpoint anew")
	}
	if f, ok := files[name]; ok {
		return f.place, f.name, nil
	}
	return ignore, name, nil
}

// sparse files are a few bytes that claim to be many.
func sparse(hdr *tar.Header) bool {
	for key := range hdr.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return hdr.Typeflag == tar.TypeGNUSparse
}
