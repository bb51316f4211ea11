package page

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/jobs/all"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/telemetry"
)

// static holds htmx 4.0.1 and its extension hx-sse, as https://registry.npmjs.org/htmx.org/-/htmx.org-4.0.1.tgz
// has them in dist; the licence is htmx.LICENSE. TestVendored has their digests.
//
//go:embed static
var static embed.FS

//go:embed templates
var texts embed.FS

func staticFiles() http.Handler {
	files := http.FileServerFS(static)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/") { // no list of them
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Cache-Control", "public, max-age=3600") // asked for with the version
		files.ServeHTTP(w, r)
	})
}

// pages are the layout and all that pages share, once with each page.
var pages = parse("overview", "jobs", "job", "confirm", "rollouts", "rollout", "login", "error")

func parse(names ...string) map[string]*template.Template {
	shared := template.Must(template.New("").Funcs(functions).ParseFS(texts, "templates/layout.html", "templates/parts.html"))
	m := map[string]*template.Template{}
	for _, name := range names {
		m[name] = template.Must(template.Must(shared.Clone()).ParseFS(texts, "templates/"+name+".html"))
	}
	return m
}

// frame is what every page shows around its own region.
type frame struct {
	Title   string
	Section string // the entry of the menu that it belongs to
	Viewer  *Viewer
	Live    string // where its region is sent again; "": it is not
	Version string
	Data    any
}

func (p *Page) render(w http.ResponseWriter, code int, name string, f frame) {
	f.Version = telemetry.Version()
	var b bytes.Buffer
	if err := pages[name].ExecuteTemplate(&b, "layout", f); err != nil {
		p.log.Error("page not rendered", "page", name, "error", err)
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	if _, err := w.Write(visible(b.Bytes())); err != nil { // whoever asked is gone
		p.log.Debug("page not written", "error", err)
	}
}

// region is the part of a page that changes.
func region(name string, data any) ([]byte, error) {
	var b bytes.Buffer
	err := pages[name].ExecuteTemplate(&b, "region", data)
	return visible(b.Bytes()), err
}

// visible has nothing in what jobs say change how the rest of a page reads: characters that
// turn the direction of text, and control characters, are shown as such. The page itself has
// none.
func visible(b []byte) []byte {
	return bytes.Map(func(r rune) rune {
		switch {
		case unicode.Is(unicode.Bidi_Control, r), r < ' ' && r != '\n' && r != '\r' && r != '\t', r == 0x7f:
			return unicode.ReplacementChar
		}
		return r
	}, b)
}

var functions = template.FuncMap{
	"age": age, "count": count, "indent": indent, "line": firstLine, "what": what, "utc": utc, "label": label, "plural": plural,
	"facts": facts, "failure": failure, "bar": bar,
}

// age is how long ago something was, as coarse as people say it: what is shown stays the same
// for a while.
func age(t time.Time) string {
	d := time.Since(t)
	switch {
	case t.IsZero():
		return "never"
	case d < 0:
		return "in " + span(-d)
	case d < 10*time.Second:
		return "just now"
	}
	return span(d) + " ago"
}

// span is a duration in one unit.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds())/10*10)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours())/24)
}

func utc(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") + " UTC" }

// count is a number with a thin space between thousands.
func count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(n) + " " + many
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

func indent(raw json.RawMessage) string {
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return string(raw)
	}
	return b.String()
}

// what is a job in a few words.
func what(st queue.Status) string { return all.Summary(st.Job.Kind, st.Job.Args) }

// label is a state for people: a retry says that something went wrong and is not over.
func label(state any) string {
	if s := fmt.Sprint(state); s != string(jobs.Retry) {
		return s
	}
	return "will retry"
}
