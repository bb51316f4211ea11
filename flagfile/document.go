package flagfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/containerd/errdefs"
	"go.yaml.in/yaml/v3"
)

// document is a file, key by key.
type document struct {
	path    string
	text    []byte
	version int
	number  *yaml.Node // of the version
	entries []entry
}

// entry is one key and its value, or values.
type entry struct {
	key    string
	node   *yaml.Node // of the key
	line   int
	values []string
}

// wrong is an error that names the file and the line.
func (d *document) wrong(line int, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %w: %w", d.path, line, fmt.Errorf(format, args...), errdefs.ErrInvalidArgument)
}

// parse reads a file of a version that one of all has made, or of the first.
func parse(path string, text []byte, all []renamed) (*document, error) {
	d := &document{path: path, text: text}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var root yaml.Node
	err := dec.Decode(&root)
	if err == nil {
		if more := dec.Decode(new(yaml.Node)); !errors.Is(more, io.EOF) {
			err = errors.Join(errors.New("there is a second document"), more)
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w: %w", path, err, errdefs.ErrInvalidArgument)
	}
	if len(root.Content) != 1 || root.Content[0].Kind != yaml.MappingNode {
		return nil, d.wrong(1, "want keys with values, and version: %d first", newest(all))
	}
	pairs := root.Content[0].Content
	seen := map[string]int{}
	for i := 0; i < len(pairs); i += 2 {
		key := pairs[i]
		if line, twice := seen[key.Value]; twice {
			return nil, d.wrong(key.Line, "%s is in line %d, too", key.Value, line)
		}
		seen[key.Value] = key.Line
		values, err := d.values(key, pairs[i+1])
		if err != nil {
			return nil, err
		}
		if key.Value != "version" {
			d.entries = append(d.entries, entry{key.Value, key, key.Line, values})
			continue
		}
		d.number = pairs[i+1]
		if d.version, err = strconv.Atoi(d.number.Value); err != nil || d.version < 1 || d.version > newest(all) {
			return nil, d.wrong(key.Line, "version %s: this lithify knows 1 to %d", d.number.Value, newest(all))
		}
	}
	if d.number == nil {
		return nil, d.wrong(1, "it does not say its version: write version: %d", newest(all))
	}
	return d, nil
}

// values are what a key has: one value, or each of a list.
func (d *document) values(key, value *yaml.Node) ([]string, error) {
	list := []*yaml.Node{value}
	if value.Kind == yaml.SequenceNode {
		list = value.Content
	}
	values := []string{}
	for _, v := range list {
		if key.Kind != yaml.ScalarNode || v.Kind != yaml.ScalarNode || v.Tag == "!!null" {
			return nil, d.wrong(v.Line, "%s: want a value or a list of them", key.Value)
		}
		values = append(values, v.Value)
	}
	return values, nil
}
