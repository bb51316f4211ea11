package erofs

import "fmt"

// EntryError says which entry of a tar is refused, and why. Another attempt on
// the same bytes ends the same way.
type EntryError struct {
	Name   string // as the tar spells it; empty where the header itself is bad
	Offset int64  // of the entry's header in the decompressed tar, in bytes
	Reason string // what is wrong and what to do
	Err    error  // io.ErrUnexpectedEOF for a truncated tar, otherwise nil
}

func (e *EntryError) Error() string {
	if e.Name == "" {
		return fmt.Sprintf("tar header at byte %d: %s", e.Offset, e.Reason)
	}
	return fmt.Sprintf("tar entry %q at byte %d: %s", e.Name, e.Offset, e.Reason)
}

func (e *EntryError) Unwrap() error { return e.Err }

// LimitError says that a layer is larger than [Limits] allow.
type LimitError struct {
	Limit string // what is limited: "bytes", "entries", ...
	Max   int64  // the limit that was passed
	Flag  string // the flag that raises it; empty where nothing raises it
}

func (e *LimitError) Error() string {
	if e.Flag == "" {
		return fmt.Sprintf("layer passes the limit of %d %s, which nothing raises; make several layers of it", e.Max, e.Limit)
	}
	return fmt.Sprintf("layer passes the limit of %d %s; if it is meant to be so large, raise %s", e.Max, e.Limit, e.Flag)
}

// UnresolvedError says that the tar holds hard links to files of lower layers,
// or hides all of them by a mark in its root, and that [Options.Context] does not
// describe them. The whole tar has been read: Needs is complete.
type UnresolvedError struct {
	Needs Needs
	links []string // those that are missing
}

func (e *UnresolvedError) Error() string {
	if len(e.links) == 0 {
		return "an opaque mark in the root hides the lower layers, name by name; convert the whole image (lithify convert), which looks the names up"
	}
	const show = 3
	names := e.links[:min(show, len(e.links))]
	more := ""
	if n := len(e.links) - len(names); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("hard links to %q%s lead into lower layers; convert the whole image (lithify convert), which looks them up", names, more)
}
