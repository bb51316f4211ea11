package daemonconf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/pelletier/go-toml/v2/unstable"
)

// Config is a configuration: a file and what it imports, in the order in which the daemon
// reads them.
type Config struct{ Files []*File }

// File is one file of a configuration.
type File struct {
	Path    string `json:"path"`
	Version int    `json:"version"` // 0: it does not say, and containerd takes it for 1
	text    []byte
	keys    []setting
}

// setting is a key that has a value in a file.
type setting struct {
	path  []string // with the tables that it is in
	key   span     // its last part
	value span     // of a string; empty for other values
	text  string   // likewise
	list  []string // an array of strings
	kind  unstable.Kind
}

// zero reports whether the value is as if there were none.
func (k setting) zero() bool {
	return len(k.list) == 0 && (k.text == "" || k.text == "0" || k.text == "false")
}

// span is a piece of a file.
type span struct{ from, to int }

// largest is more than any configuration has.
const largest = 4 << 20

// Read reads a file and what it imports, each once, as containerd does. A file that is no
// TOML is an errdefs.ErrInvalidArgument that names the line.
func Read(path string) (*Config, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	var c Config
	seen := map[string]bool{}
	for pending := []string{path}; len(pending) > 0; pending = pending[1:] {
		if seen[pending[0]] {
			continue
		}
		seen[pending[0]] = true
		f, err := readFile(pending[0])
		if err != nil {
			return nil, err
		}
		c.Files = append(c.Files, f)
		more, err := f.imports()
		if err != nil {
			return nil, err
		}
		pending = append(pending, more...)
	}
	return &c, nil
}

func readFile(path string) (*File, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(in, largest+1))
	if err = errors.Join(err, in.Close()); err != nil {
		return nil, err
	}
	if len(text) > largest {
		return nil, fmt.Errorf("%s: larger than %d bytes: %w", path, largest, errdefs.ErrInvalidArgument)
	}
	return parse(path, text)
}

// imports are the files that are named in f; an asterisk stands for whatever there is.
func (f *File) imports() (all []string, _ error) {
	for _, k := range f.keys {
		if len(k.path) != 1 || k.path[0] != "imports" {
			continue
		}
		for _, p := range k.list {
			if p = filepath.Clean(p); !filepath.IsAbs(p) {
				p = filepath.Join(filepath.Dir(f.Path), p)
			}
			if !strings.Contains(p, "*") {
				all = append(all, p)
				continue
			}
			found, err := filepath.Glob(p)
			if err != nil {
				return nil, fmt.Errorf("%s: imports %q: %w: %w", f.Path, p, err, errdefs.ErrInvalidArgument)
			}
			all = append(all, found...)
		}
	}
	return all, nil
}

// parse finds where each key stands.
func parse(path string, text []byte) (*File, error) {
	f := &File{Path: path, text: text}
	var p unstable.Parser
	p.Reset(text)
	var table []string
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table, _ = names(e.Key())
		case unstable.KeyValue:
			f.add(table, e)
		}
	}
	if err := p.Error(); err != nil {
		line := ""
		if bad, ok := errors.AsType[*unstable.ParserError](err); ok {
			line = fmt.Sprintf(":%d", p.Shape(p.Range(bad.Highlight)).Start.Line)
		}
		return nil, fmt.Errorf("%s%s: %w: %w", path, line, err, errdefs.ErrInvalidArgument)
	}
	for _, k := range f.keys {
		if len(k.path) == 1 && k.path[0] == "version" {
			n, err := strconv.ParseInt(k.text, 0, 32) // hexadecimal, too, as TOML has it
			if k.kind != unstable.Integer || err != nil {
				return nil, fmt.Errorf("%s:%d: version %q is no whole number: write version = 4, without quotes: %w", path, f.line(k.key.from), k.text, errdefs.ErrInvalidArgument)
			}
			f.Version = int(n)
		}
	}
	return f, nil
}

// names are the parts of a key, and where the last one stands.
func names(it unstable.Iterator) (parts []string, last span) {
	for it.Next() {
		n := it.Node()
		parts, last = append(parts, string(n.Data)), spanOf(n)
	}
	return parts, last
}

func spanOf(n *unstable.Node) span {
	return span{int(n.Raw.Offset), int(n.Raw.Offset + n.Raw.Length)}
}

// add takes up a key, or those of an inline table.
func (f *File) add(table []string, e *unstable.Node) {
	parts, at := names(e.Key())
	v := e.Value()
	k := setting{path: append(append([]string{}, table...), parts...), key: at, kind: v.Kind}
	switch v.Kind {
	case unstable.InlineTable:
		for it := v.Children(); it.Next(); {
			f.add(k.path, it.Node())
		}
		return
	case unstable.Array:
		k.list = []string{}
		for it := v.Children(); it.Next(); {
			if n := it.Node(); n.Kind == unstable.String {
				k.list = append(k.list, string(n.Data))
			}
		}
	case unstable.String:
		k.value, k.text = spanOf(v), string(v.Data)
	default:
		k.text = string(v.Data)
	}
	f.keys = append(f.keys, k)
}

// line is the number of the line that an offset is in.
func (f *File) line(offset int) int { return 1 + bytes.Count(f.text[:offset], []byte("\n")) }
