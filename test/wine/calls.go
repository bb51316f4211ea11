package wine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
)

// A Call is one line of what the DLLs write down. Which fields a call has depends on Fn, the
// name of its function; SD, Reparse, EA, SHA256 and Hash are hexadecimal.
type Call struct {
	Fn string `json:"fn"`

	Block string `json:"block"`
	Path  string `json:"path"`
	Old   string `json:"old"`
	New   string `json:"new"`
	Flags uint32 `json:"flags"`

	Attr                        uint32 `json:"attr"`
	Size                        int64  `json:"size"`
	CTime, MTime, ChTime, ATime int64  // in 100 ns since 1601
	SD                          string `json:"sd"`
	Reparse                     string `json:"reparse"`
	EA                          string `json:"ea"`

	Written int64  `json:"written"`
	SHA256  string `json:"sha256"`
	Hash    string `json:"hash"`

	// HR is the HRESULT, of offreg.dll the error of Windows.
	HR uint32 `json:"hr"`
}

// ReadCalls reads a file of Calls, in their order.
func ReadCalls(t testing.TB, path string) []Call {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var calls []Call
	for d := json.NewDecoder(f); ; {
		var c Call
		if err := d.Decode(&c); errors.Is(err, io.EOF) {
			return calls
		} else if err != nil {
			t.Fatalf("%s: call %d: %v", path, len(calls), err)
		}
		calls = append(calls, c)
	}
}

// String is the function and the fields that are set. Long ones are cut: SHA256 and Hash
// are not meant to be read, nor are security descriptors.
func (c Call) String() string {
	s := c.Fn
	add := func(set bool, key string, value any) {
		if set {
			s += fmt.Sprintf(" %s=%v", key, value)
		}
	}
	text := func(key, value string) { add(value != "", key, value) }
	text("block", c.Block)
	text("path", c.Path)
	text("new", c.New)
	text("old", c.Old)
	add(c.Flags != 0, "flags", c.Flags)
	add(c.Attr != 0, "attr", fmt.Sprintf("%#x", c.Attr))
	add(c.Size != 0, "size", c.Size)
	add(c.CTime != 0, "ctime", c.CTime)
	add(c.MTime != 0, "mtime", c.MTime)
	add(c.ChTime != c.MTime, "chtime", c.ChTime)
	add(c.ATime != c.MTime, "atime", c.ATime)
	text("sd", short(c.SD))
	text("reparse", c.Reparse)
	text("ea", c.EA)
	add(c.Written != 0, "written", c.Written)
	text("sha256", short(c.SHA256))
	text("hash", short(c.Hash))
	add(c.HR != 0, "hr", fmt.Sprintf("%#x", c.HR))
	return s
}

func short(hex string) string {
	if len(hex) > 16 {
		return fmt.Sprintf("%s..(%d)", hex[:12], len(hex)/2)
	}
	return hex
}
