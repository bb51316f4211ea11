// Package logtail adds what a program has logged to the error that it ended with.
package logtail

import (
	"io"
	"os"
	"strings"
	"unicode"
)

// maxTail is how much of a log an error shows, in bytes.
const maxTail = 4 << 10

// Of is the end of a log, to be written behind an error: "" if there is none. whose says
// whose log it is.
func Of(whose, file string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > maxTail {
		if _, err := f.Seek(-maxTail, io.SeekEnd); err != nil {
			return ""
		}
	}
	tail, err := io.ReadAll(io.LimitReader(f, maxTail))
	if err != nil || len(tail) == 0 {
		return ""
	}
	return "; the end of " + whose + "'s log:\n" + strings.Map(plain, string(tail))
}

// plain is what a terminal only shows of a stranger's log.
func plain(r rune) rune {
	if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
		return '?'
	}
	return r
}
