//go:build linux

// Command probe is what the test images run: it prints as JSON what the paths in
// its arguments are, as seen from inside the container.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"syscall"
)

type entry struct {
	Mode    string // as stat(1) prints it in octal, with the type
	UID     uint32
	GID     uint32
	Links   uint64
	Content string `json:",omitempty"` // of a small regular file
	Error   string `json:",omitempty"`
}

func main() {
	seen := map[string]entry{}
	for _, path := range os.Args[1:] {
		seen[path] = look(path)
	}
	if err := json.NewEncoder(os.Stdout).Encode(seen); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func look(path string) entry {
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		return entry{Error: err.Error()}
	}
	e := entry{Mode: fmt.Sprintf("%o", st.Mode), UID: st.Uid, GID: st.Gid, Links: uint64(st.Nlink)}
	if st.Mode&syscall.S_IFMT == syscall.S_IFREG && st.Size < 4096 {
		raw, err := os.ReadFile(path)
		if err != nil {
			return entry{Error: err.Error()}
		}
		e.Content = string(raw)
	}
	return e
}
