package erofs

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
)

// JSON strings are Unicode; the names in a tar are bytes. A name that is not
// UTF-8 is written as a NUL, which no name holds, and base64.

// It is a struct because encoding/json would take a string's own bytes for a key.
type jsonName struct{ name string }

func toJSON(name string) jsonName { return jsonName{name} }
func (n jsonName) String() string { return n.name }

func (n jsonName) MarshalText() ([]byte, error) {
	if utf8.ValidString(n.name) && !strings.HasPrefix(n.name, "\x00") {
		return []byte(n.name), nil
	}
	return []byte("\x00" + base64.StdEncoding.EncodeToString([]byte(n.name))), nil
}

func (n *jsonName) UnmarshalText(b []byte) error {
	s, raw := strings.CutPrefix(string(b), "\x00")
	if !raw {
		n.name = s
		return nil
	}
	name, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return fmt.Errorf("name %q: %w", s, err)
	}
	n.name = string(name)
	return nil
}

// MarshalJSON writes the values as base64.
func (x Xattrs) MarshalJSON() ([]byte, error) {
	return json.Marshal(convertMap(x, toJSON, func(v string) []byte { return []byte(v) }))
}

// UnmarshalJSON reads what MarshalJSON writes.
func (x *Xattrs) UnmarshalJSON(b []byte) error {
	var m map[jsonName][]byte
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	*x = convertMap(m, jsonName.String, func(v []byte) string { return string(v) })
	return nil
}

func convertMap[K1, K2 comparable, V1, V2 any](m map[K1]V1, key func(K1) K2, value func(V1) V2) map[K2]V2 {
	if m == nil {
		return nil
	}
	out := make(map[K2]V2, len(m))
	for k, v := range m {
		out[key(k)] = value(v)
	}
	return out
}

type jsonNeeds struct {
	Dirs  []jsonName `json:"dirs,omitempty"`
	Links []jsonName `json:"links,omitempty"`

	RootNames bool `json:"rootNames,omitempty"`
}

// MarshalJSON keeps names that are not UTF-8.
func (n Needs) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonNeeds{convertSlice(n.Dirs, toJSON), convertSlice(n.Links, toJSON), n.RootNames})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (n *Needs) UnmarshalJSON(b []byte) error {
	var j jsonNeeds
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	*n = Needs{convertSlice(j.Dirs, jsonName.String), convertSlice(j.Links, jsonName.String), j.RootNames}
	return nil
}

func convertSlice[F, T any](from []F, f func(F) T) []T {
	if from == nil {
		return nil
	}
	to := make([]T, len(from))
	for i, v := range from {
		to[i] = f(v)
	}
	return to
}

type jsonLowerFile struct {
	Attr
	Type    fs.FileMode   `json:"type,omitempty"`
	ModTime time.Time     `json:"modTime"`
	Size    int64         `json:"size,omitempty"`
	Target  jsonName      `json:"target,omitzero"`
	Rdev    uint32        `json:"rdev,omitempty"`
	Digest  digest.Digest `json:"digest,omitempty"`
}

type jsonContext struct {
	Dirs  map[jsonName]Attr          `json:"dirs,omitempty"`
	Links map[jsonName]jsonLowerFile `json:"links,omitempty"`

	RootNames []jsonName `json:"rootNames,omitzero"`
}

// MarshalJSON writes everything but the means to open files: a context is a
// value, and part of what a conversion's result depends on.
func (c Context) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonContext{
		Dirs: convertMap(c.Dirs, toJSON, func(a Attr) Attr { return a }),
		Links: convertMap(c.Links, toJSON, func(f LowerFile) jsonLowerFile {
			return jsonLowerFile{f.Attr, f.Type, f.ModTime, f.Size, toJSON(f.Target), f.Rdev, f.Digest}
		}),
		RootNames: convertSlice(c.RootNames, toJSON),
	})
}

// UnmarshalJSON reads what MarshalJSON writes; the files cannot be opened.
func (c *Context) UnmarshalJSON(b []byte) error {
	var j jsonContext
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	c.Dirs = convertMap(j.Dirs, jsonName.String, func(a Attr) Attr { return a })
	c.Links = convertMap(j.Links, jsonName.String, func(f jsonLowerFile) LowerFile {
		return LowerFile{Attr: f.Attr, Type: f.Type, ModTime: f.ModTime, Size: f.Size, Target: f.Target.name, Rdev: f.Rdev, Digest: f.Digest}
	})
	c.RootNames = convertSlice(j.RootNames, jsonName.String)
	return nil
}
