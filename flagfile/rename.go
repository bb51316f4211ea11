package flagfile

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/aymanbagabas/go-udiff"
	"go.yaml.in/yaml/v3"
)

// renamed is a flag that got another name.
type renamed struct {
	in       int // the first version of the format that has it so
	from, to string
}

// renames are in the order in which they were made. Whoever renames a flag adds a line, as
//
//	{2, "nats", "server"},
var renames []renamed

// newest is the version of a file that needs no migration.
func newest(all []renamed) int {
	version := 1
	for _, r := range all {
		version = max(version, r.in)
	}
	return version
}

// rename gives the keys of an earlier version the names that they have now.
func (d *document) rename(all []renamed) (warnings []Warning, _ error) {
	for i, e := range d.entries {
		for _, r := range all {
			if d.version < r.in && d.entries[i].key == r.from {
				d.entries[i].key = r.to
			}
		}
		now := d.entries[i].key
		if now == e.key {
			continue
		}
		for j, o := range d.entries {
			if j != i && o.key == now {
				return nil, d.wrong(e.line, "%s is called %s now, and that is in line %d, too: delete one of them", e.key, now, o.line)
			}
		}
		warnings = append(warnings, Warning{d.path, e.line, e.key, now})
	}
	return warnings, nil
}

// Migrate gives, as a unified diff, how to have a file of the newest version, with all else
// as it is; "" if it is of that. It does not look at keys that no version has renamed:
// which there are is each program's to know.
func Migrate(path string, text []byte) (diff string, _ error) { return migrate(path, text, renames) }

func migrate(path string, text []byte, all []renamed) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	d, err := parse(path, text, all)
	if err != nil {
		return "", err
	}
	if d.version == newest(all) {
		return "", nil
	}
	if _, err := d.rename(all); err != nil {
		return "", err
	}
	type edit struct {
		at       int
		was, now string
	}
	edits := []edit{{d.offset(d.number), d.number.Value, strconv.Itoa(newest(all))}}
	for _, e := range d.entries {
		if e.key != e.node.Value {
			edits = append(edits, edit{d.offset(e.node), e.node.Value, e.key})
		}
	}
	slices.SortFunc(edits, func(a, b edit) int { return b.at - a.at })
	now := string(text)
	for _, e := range edits {
		if !strings.HasPrefix(now[e.at:], e.was) {
			return "", fmt.Errorf("%s: %s is written in a way that is not migrated: write it plainly", path, e.was)
		}
		now = now[:e.at] + e.now + now[e.at+len(e.was):]
	}
	name := strings.TrimPrefix(path, "/")
	return udiff.Unified("a/"+name, "b/"+name, string(text), now), nil
}

// offset is where the text of a node begins, behind its quote.
func (d *document) offset(n *yaml.Node) int {
	rest := string(d.text)
	for range n.Line - 1 {
		_, rest, _ = strings.Cut(rest, "\n")
	}
	for range n.Column - 1 {
		_, size := utf8.DecodeRuneInString(rest)
		rest = rest[size:]
	}
	if n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 && rest != "" {
		rest = rest[1:]
	}
	return len(d.text) - len(rest)
}
