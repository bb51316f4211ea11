package cimfs

import (
	"archive/tar"
	"fmt"
	"path"
	"strings"
)

// entry is what a path of the CIM names.
type entry int

const (
	plainFile entry = iota + 1
	directory
)

// problem keeps one, if it is among the first.
func (p *plan) problem(name, text string, refused bool) {
	if refused {
		p.layer.Refused++
	}
	// One that refuses is never crowded out by those that do not.
	if len(p.layer.Problems) < maxProblems || refused && p.layer.Refused == 1 {
		p.layer.Problems = append(p.layer.Problems, Problem{Path: name, Text: text, Refused: refused})
	}
}

func (p *plan) refuse(name, text string) { p.problem(name, text, true) }
func (p *plan) note(name, text string)   { p.problem(name, text, false) }

// checkName refuses what is no path in a layer of Windows.
func (p *plan) checkName(name string) {
	clean := strings.TrimSuffix(name, "/")
	switch {
	case path.IsAbs(name) || clean != path.Clean(name) || clean == "." || clean == ".." || strings.HasPrefix(clean, "../"):
		p.refuse(name, "not a plain path: one that is relative, without empty parts, . and ..")
	case strings.ContainsAny(name, "\\\x00"):
		p.refuse(name, "a backslash or a NUL in a name")
	}
}

// checkFile refuses what hcsshim would write, and not as the layer has it.
func (p *plan) checkFile(h *tar.Header, c Call) {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink:
	default:
		p.refuse(h.Name, fmt.Sprintf("an entry of type %q: layers of Windows have files, directories and links", h.Typeflag))
	}
	if strings.Contains(h.Name, ":") {
		p.refuse(h.Name, "a colon in a name, or a stream that is not behind its file")
	}
	if isDir := c.Attributes&attributeDirectory != 0; isDir && h.Typeflag == tar.TypeReg && h.Size > 0 {
		p.refuse(h.Name, "a directory by its attributes that has content")
	} else if !isDir && h.Typeflag == tar.TypeDir {
		p.refuse(h.Name, "a directory whose attributes say that it is none")
	}
	if len(c.Reparse) > maxReparse {
		p.refuse(h.Name, fmt.Sprintf("the target of a link has %d bytes: Windows takes %d", len(c.Reparse), maxReparse))
	}
	if c.Path == utilityVM && !p.base {
		p.note(h.Name, "files of a utility VM in another layer than the base: hcsshim does not merge them")
	}
	if n := countEA(h); n > 1 {
		p.note(h.Name, fmt.Sprintf("%d extended attributes: hcsshim v0.15.0 writes them in another order each time, so the CIM's bytes differ", n))
	}
}

func countEA(h *tar.Header) (n int) {
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, paxEA) {
			n++
		}
	}
	return n
}

// checkHives refuses a base layer that hcsshim cannot finish.
func (p *plan) checkHives() {
	for _, h := range hives {
		if file := configDir + `\` + h.name; !p.added[file] {
			p.refuse(file, "is not there: a base layer has all hives")
		}
	}
	for _, hive := range p.layer.Deltas {
		p.refuse(hivesDir+`\`+hives[hiveIndex(hive)].delta, "changes of a hive in a base layer")
	}
}

// checkCall refuses what the CIM API does: a second file of a name, which are the same in
// either case of letters, and a file in what is no directory of this CIM.
func (p *plan) checkCall(c Call) {
	folded := fold(c.Path)
	switch c.Op {
	case OpTombstone, OpStream:
		return
	case OpLink:
		if !p.linkable(c.Target) {
			p.refuse(c.Path, "a hard link to "+c.Target+", which is a directory, or was not added before it")
		}
	case OpMergeLink:
		if p.names[fold(c.Target)] != 0 {
			p.note(c.Path, "a hard link to "+c.Target+", which this layer has in other letters: hcsshim looks for it in the layers below")
		} else if p.base {
			p.refuse(c.Path, "a hard link to "+c.Target+", which is not in the layer, and there is none below")
		}
	}
	was, kind := p.names[folded], plainFile
	if c.Attributes&attributeDirectory != 0 {
		kind = directory
	}
	if was != 0 && (was != directory || kind != directory) {
		p.refuse(c.Path, "is in the layer twice: names differ by more than the case of their letters")
	}
	if i := strings.LastIndexByte(folded, '\\'); i >= 0 && p.names[folded[:i]] != directory {
		p.refuse(c.Path, "its directory is not in the layer before it")
	}
	p.names[folded] = kind
}

func (p *plan) linkable(target string) bool { return p.names[fold(target)] == plainFile }

// fold is a name without the case of its letters. Windows has a table of its own for it, which
// differs from Unicode's in few letters.
func fold(name string) string { return strings.ToUpper(name) }
