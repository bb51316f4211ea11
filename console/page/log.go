package page

import (
	"encoding/json"
	"fmt"
	"html"
	"regexp"
	"strings"
	"time"

	buildjob "github.com/lithify/lithify/jobs/build"
	"github.com/lithify/lithify/queue"
)

// maxPrinted is how much of a log a page begins with, in bytes; the rest is for
// `lithify jobs logs`.
const maxPrinted = 64 << 10

// logSpan is a piece of a log as HTML. Pieces are elements, so that white space stays.
func logSpan(text string) []byte {
	return visible([]byte("<span>" + html.EscapeString(text) + "</span>"))
}

// colours are the sequences by which programs colour what they print (ECMA-48, SGR).
var colours = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// printer makes text of the pieces of a job's log, in their order.
func printer(kind string) func(queue.LogPart) string {
	if kind == buildjob.Kind {
		return (&buildLog{names: map[string]string{}}).text
	}
	return func(p queue.LogPart) string { return colours.ReplaceAllString(string(p.Data), "") }
}

// buildLog makes text of the log of a build, which is a line of JSON for each of BuildKit's
// client.SolveStatus. A line may come in several pieces.
type buildLog struct {
	rest  string
	names map[string]string // of steps, by their digest
}

// solveStatus is what of it is shown.
type solveStatus struct {
	Vertexes []struct {
		Digest, Name, Error string
		Completed           *time.Time
		Cached              bool
	}
	Logs []struct {
		Vertex string
		Data   []byte
	}
}

func (b *buildLog) text(p queue.LogPart) string {
	var out strings.Builder
	b.rest += string(p.Data)
	for {
		line, rest, whole := strings.Cut(b.rest, "\n")
		if !whole {
			return out.String()
		}
		b.rest = rest
		var s solveStatus
		if json.Unmarshal([]byte(line), &s) != nil {
			continue
		}
		b.tell(&out, s)
	}
}

func (b *buildLog) tell(out *strings.Builder, s solveStatus) {
	for _, v := range s.Vertexes {
		if _, known := b.names[v.Digest]; !known {
			b.names[v.Digest] = v.Name
			fmt.Fprintln(out, v.Name)
		}
		switch {
		case v.Error != "":
			fmt.Fprintf(out, "%s: ERROR: %s\n", v.Name, v.Error)
		case v.Completed != nil && v.Cached:
			fmt.Fprintf(out, "%s: cached\n", v.Name)
		}
	}
	for _, l := range s.Logs {
		out.WriteString(colours.ReplaceAllString(string(l.Data), ""))
		if n := len(l.Data); n > 0 && l.Data[n-1] != '\n' {
			out.WriteByte('\n')
		}
	}
}
