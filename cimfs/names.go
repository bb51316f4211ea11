package cimfs

import (
	"path"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Windows has none longer, in uint16s of UTF-16.
const (
	maxName = 255
	maxPath = 32767
)

// devices are files in every directory, with whatever extension.
var devices = []string{
	"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$",
	"COM1", "COM2", "COM3", "COM4", "COM5", "COM6", "COM7", "COM8", "COM9",
	"LPT1", "LPT2", "LPT3", "LPT4", "LPT5", "LPT6", "LPT7", "LPT8", "LPT9",
	"COM¹", "COM²", "COM³", "LPT¹", "LPT²", "LPT³", // digits of ISO 8859-1
}

// checkName refuses what is no path in a layer of Windows.
func (p *plan) checkName(name string) {
	clean := strings.TrimSuffix(name, "/")
	switch {
	case path.IsAbs(name) || clean != path.Clean(name) || clean == "." || clean == ".." || strings.HasPrefix(clean, "../"):
		p.refuse(name, "not a plain path: one that is relative, without empty parts, . and ..")
	case strings.ContainsAny(name, "\\\x00"):
		p.refuse(name, "a backslash or a NUL in a name")
	case !utf8.ValidString(name):
		p.refuse(name, "no UTF-8")
	default:
		for part := range strings.SplitSeq(clean, "/") {
			p.checkPart(name, part)
		}
	}
}

// checkPart is of a file's own name, or a directory's on the way to it.
func (p *plan) checkPart(name, part string) {
	base, _, _ := strings.Cut(part, ".")
	switch {
	case strings.ContainsFunc(part, func(r rune) bool { return r < ' ' || strings.ContainsRune(`"*<>?|`, r) }):
		p.refuse(name, "no name in Windows: a control character, or one of \"*<>?|")
	case len(part) > maxName && units(part) > maxName:
		p.refuse(name, "a name of more than 255 characters")
	case strings.HasSuffix(part, ".") || strings.HasSuffix(part, " "):
		p.note(name, "a dot or a space at its end: most programs of Windows look for a file without it")
	case slices.Contains(devices, strings.ToUpper(strings.TrimRight(base, " "))):
		p.note(name, "the name of a device: most programs of Windows open that")
	}
}

// checkColon refuses what would name a stream.
func (p *plan) checkColon(name string) {
	if strings.Contains(name, ":") {
		p.refuse(name, "a colon in a name, or a stream that is not behind its file")
	}
}

func units(s string) int { return len(utf16.Encode([]rune(s))) }

func tooLong(name string) bool { return len(name) > maxPath && units(name) > maxPath }
