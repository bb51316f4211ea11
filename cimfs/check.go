package cimfs

import (
	"archive/tar"
	"fmt"
	"strings"
)

// entry is what a path of the CIM names.
type entry int

const (
	plainFile entry = iota + 1
	directory
	removed // from those below
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

// checkFile refuses what hcsshim would write, and not as the layer has it.
func (p *plan) checkFile(h *tar.Header, c Call) {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink:
	default:
		p.refuse(h.Name, fmt.Sprintf("an entry of type %q: layers of Windows have files, directories and links", h.Typeflag))
	}
	p.checkColon(h.Name)
	if apart(c.Path) && h.Typeflag != tar.TypeReg {
		p.refuse(h.Name, "a hive, or a file that a utility VM starts by, that is no file")
	}
	if isDir := c.Attributes&attributeDirectory != 0; isDir && h.Typeflag == tar.TypeReg && h.Size > 0 {
		p.refuse(h.Name, "a directory by its attributes that has content")
	} else if !isDir && h.Typeflag == tar.TypeDir {
		p.refuse(h.Name, "a directory whose attributes say that it is none")
	}
	if len(c.Reparse) > maxReparse {
		p.refuse(h.Name, fmt.Sprintf("the target of a link has %d bytes: Windows takes %d", len(c.Reparse), maxReparse))
	}
	if n := len(c.SecurityDescriptor); n > maxSD || n > 0 && !soundSD(c.SecurityDescriptor) {
		p.refuse(h.Name, "what it has for a security descriptor is none")
	}
	if n := len(c.ExtendedAttributes); n > maxEA {
		p.refuse(h.Name, fmt.Sprintf("%d bytes of extended attributes: Windows takes %d", n, maxEA))
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
	case OpStream:
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
	switch {
	case c.Op == OpTombstone:
		kind = removed
	case c.Attributes&attributeDirectory != 0:
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
