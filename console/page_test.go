package console_test

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/lithify/lithify/console"
	"github.com/lithify/lithify/console/consoletest"
	"github.com/lithify/lithify/jobs"
	restorejob "github.com/lithify/lithify/jobs/restore"
	"github.com/lithify/lithify/queue"
)

// scan gives the lines of r, which may be long.
func scan(r io.Reader) iter.Seq[string] {
	return func(yield func(string) bool) {
		s := bufio.NewScanner(r)
		for s.Buffer(nil, 8<<20); s.Scan() && yield(s.Text()); {
		}
	}
}

// Nobody sees anything without a session, and a session is what a browser keeps to itself.
func TestPageLogin(t *testing.T) {
	p := startPagePool(t, console.Config{})
	for _, path := range []string{"/", "/jobs?state=failed", "/jobs/convert-x", "/rollouts", "/rollouts/rollout-x", "/jobs/convert-x/log", "/jobs/convert-x/cancel"} {
		resp, body := p.browser().do(http.MethodGet, path, nil, nil)
		if want := "/login?to=" + url.QueryEscape(path); resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != want || strings.Contains(body, "<main") {
			t.Errorf("%s: %d to %q, want %q", path, resp.StatusCode, resp.Header.Get("Location"), want)
		}
		if resp, _ := p.browser().do(http.MethodGet, path, nil, http.Header{"Accept": {"text/event-stream"}}); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("stream of %s: %d", path, resp.StatusCode)
		}
	}
	if resp, _ := p.browser().post("/jobs/convert-x/cancel", nil, nil); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("cancel: %d", resp.StatusCode)
	}

	b := p.browser()
	if resp, body := b.post("/login", url.Values{"secret": {"another key of somebody"}}, nil); resp.StatusCode != http.StatusUnauthorized || len(resp.Cookies()) > 0 || !strings.Contains(body, `role="alert"`) {
		t.Errorf("wrong key: %d %s", resp.StatusCode, body)
	}
	for to, want := range map[string]string{"/jobs?state=dead": "/jobs?state=dead", "//evil.example.com/": "/", "https://evil.example.com/": "/", `/\evil.example.com`: "/", "": "/"} {
		resp, _ := b.post("/login", url.Values{"secret": {" " + operatorKey + "\n"}, "to": {to}}, nil)
		if got := resp.Header.Get("Location"); resp.StatusCode != http.StatusSeeOther || got != want {
			t.Errorf("log in for %q: %d to %q, want %q", to, resp.StatusCode, got, want)
		}
		c := resp.Cookies()[0]
		if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.MaxAge <= 0 || strings.Contains(c.Value, operatorKey) {
			t.Errorf("cookie %v", c)
		}
	}
	if code, body := b.get("/"); code != http.StatusOK || !strings.Contains(body, "worker-of-node-1") {
		t.Errorf("logged in: %d %s", code, body)
	}
	if resp, _ := b.post("/logout", nil, nil); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("log out: %d", resp.StatusCode)
	}
	if code, _ := b.get("/"); code != http.StatusSeeOther {
		t.Errorf("logged out: %d", code)
	}
}

// A session is good for as long as it says, and nobody can make it last longer.
func TestPageSession(t *testing.T) {
	p := startPagePool(t, console.Config{})
	b := p.operator()
	u, _ := url.Parse(p.url)
	session := b.Jar.Cookies(u)[0].Value
	end, sum, _ := strings.Cut(strings.TrimPrefix(session, "operator."), ".")
	for name, value := range map[string]string{
		"lasts longer":  "operator.9" + end[1:] + "." + sum,
		"has ended":     "operator.1000000000." + sum,
		"without a sum": "operator." + end + ".",
		"nothing":       "operator.",
		"no token":      "token.x.y.z",
	} {
		b.Jar.SetCookies(u, []*http.Cookie{{Name: "lithify-session", Value: value, Path: "/"}})
		if code, _ := b.get("/"); code != http.StatusSeeOther {
			t.Errorf("%s: %d", name, code)
		}
	}
}

// A stream ends with the token that opened it.
func TestPageStreamEnds(t *testing.T) {
	ci := consoletest.New(t)
	cfg, err := load(t, config(ci.URL))
	if err != nil {
		t.Fatal(err)
	}
	p := startPagePool(t, cfg)
	b := p.browser()
	b.login(ci.Token(map[string]any{"exp": time.Now().Add(4 * time.Second).Unix()}))
	events, _ := b.follow("/")
	await(t, events, has("worker-of-node-1"))
	timeout := time.After(time.Minute)
	for {
		select {
		case _, more := <-events:
			if !more {
				return
			}
		case <-timeout:
			t.Fatal("it goes on")
		}
	}
}

// Each answer tells the browser to load and run nothing but what this server has in files.
func TestPageHeaders(t *testing.T) {
	p := startPagePool(t, console.Config{})
	b := p.operator()
	for _, path := range []string{"/", "/jobs", "/jobs/none", "/login", "/static/page.css", "/static/htmx.min.js", "/nothing"} {
		resp, body := b.do(http.MethodGet, path, nil, nil)
		csp := resp.Header.Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';") || strings.Contains(csp, "unsafe") ||
			!strings.Contains(csp, "frame-ancestors 'none'") || resp.Header.Get("X-Content-Type-Options") != "nosniff" || resp.Header.Get("Referrer-Policy") == "" {
			t.Errorf("%s: %v", path, resp.Header)
		}
		if strings.HasPrefix(path, "/static") != strings.Contains(resp.Header.Get("Cache-Control"), "public") {
			t.Errorf("%s: Cache-Control %s", path, resp.Header.Get("Cache-Control"))
		}
		if inline := regexp.MustCompile(`<style|<script>|<script [^>]*>[^<]|\son[a-z]+=|style=`).FindString(body); strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") && inline != "" {
			t.Errorf("%s has %s inline", path, inline)
		}
	}
	if code, _ := b.get("/static/"); code != http.StatusNotFound {
		t.Errorf("list of files: %d", code)
	}
}

// Another site can make a browser send nothing that changes something.
func TestPageCrossSite(t *testing.T) {
	p := startPagePool(t, console.Config{})
	id := p.submit(newArgs("debian:12", "registry.example.com/acme/holds:1"), jobs.Options{})
	for name, header := range map[string]http.Header{
		"by its word":   {"Sec-Fetch-Site": {"cross-site"}},
		"by its origin": {"Origin": {"https://evil.example.com"}},
	} {
		for _, path := range []string{"/jobs/" + string(id) + "/cancel", "/logout", "/login"} {
			if resp, _ := p.operator().post(path, nil, header); resp.StatusCode != http.StatusForbidden {
				t.Errorf("%s to %s: %d", name, path, resp.StatusCode)
			}
		}
	}
	if st, err := p.Get(t.Context(), id); err != nil || st.State.Ended() {
		t.Errorf("%v, %v", st.State, err)
	}
	// A link from elsewhere brings no cookie: the page asks once more by itself.
	resp, body := p.browser().do(http.MethodGet, "/login?to="+url.QueryEscape("/jobs?kind=convert&state=dead"), nil, http.Header{"Sec-Fetch-Site": {"cross-site"}})
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, `<meta http-equiv="refresh" content="0; url=/jobs?kind=convert&amp;state=dead">`) {
		t.Errorf("link from elsewhere: %d %s", resp.StatusCode, body)
	}
}

// What jobs say is text, wherever it is shown.
func TestPageEscapes(t *testing.T) {
	p := startPagePool(t, console.Config{})
	b := p.operator()
	failed := p.submit(newArgs("debian:12", "registry.example.com/acme/fails:1"), jobs.Options{Submitter: hostile})
	done := p.submit(newArgs("debian:12", "registry.example.com/acme/good:1"), jobs.Options{Submitter: hostile})
	rollout := p.submit(newRollout("web", 4, 4), jobs.Options{Submitter: hostile})
	close(p.gate)
	p.ended(failed, done, rollout)
	held := p.submit(newArgs("debian:12", "registry.example.com/acme/holds:2"), jobs.Options{})
	if _, err := p.Cancel(t.Context(), held, hostile); err != nil {
		t.Fatal(err)
	}
	if err := p.Control(t.Context(), func(c *queue.Controls) error {
		c.Pauses = append(c.Pauses, queue.Pause{Selector: queue.Selector{Kind: "build"}, By: hostile, Reason: hostile, Since: time.Now()})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	p.until(b, "/jobs?state=cancelled", has(string(held)))
	for _, path := range []string{"/", "/jobs", "/jobs/" + string(failed), "/jobs/" + string(done), "/jobs/" + string(held), "/jobs/" + string(rollout), "/rollouts", "/rollouts/" + string(rollout),
		"/jobs/" + string(failed) + "/retry", "/jobs?kind=" + url.QueryEscape(hostile), "/jobs?state=" + url.QueryEscape(hostile), "/jobs/" + url.PathEscape(hostile)} {
		code, body := b.get(path)
		if body := strings.ToLower(body); strings.Contains(body, "<script>") || strings.Contains(body, "<img") || strings.Contains(body, "\u202e") {
			t.Errorf("%s has it unescaped: %s", path, body)
		}
		if path != "/rollouts" && !strings.HasSuffix(path, "/retry") && !strings.Contains(body, "&lt;script&gt;") {
			t.Errorf("%s does not show it: %d %s", path, code, body)
		}
	}
	// Live, too; and no line of it is a field of an event's own.
	for _, path := range []string{"/jobs/" + string(failed), "/jobs/" + string(failed) + "/log"} {
		events, stop := b.follow(path)
		e := await(t, events, has("&lt;script&gt;"))
		if stop(); strings.Contains(e, "<script>") || strings.Contains(e, "\r") || strings.Contains(e, "\u202e") {
			t.Errorf("stream of %s: %s", path, e)
		}
	}
}

// The list is found by state and kind, page by page, and each job on one of them once.
func TestPageJobs(t *testing.T) {
	p := startPagePool(t, console.Config{})
	b := p.operator()
	var js []jobs.Job
	for i := range 120 {
		js = append(js, newJob(t, newArgs("debian:12", text(i)), jobs.Options{}))
	}
	if _, err := p.SubmitAll(t.Context(), js); err != nil {
		t.Fatal(err)
	}
	failed := p.submit(newArgs("debian:12", "registry.example.com/fails:1"), jobs.Options{})
	p.until(b, "/jobs?state=done", has("120 jobs"))
	p.until(b, "/jobs?state=failed", has("1 job,", string(failed), "manifest unknown"))
	if _, body := b.get("/jobs?kind=build"); !strings.Contains(body, "No job is like that") {
		t.Errorf("no builds: %s", body)
	}
	if _, body := b.get("/jobs?kind=convert&state=ended"); !strings.Contains(body, "121 jobs") || !strings.Contains(body, `<option value="ended" selected>`) {
		t.Errorf("ended: %s", body)
	}
	seen := map[string]int{}
	rows, older := regexp.MustCompile(`<tr id="row-([^"]+)"`), regexp.MustCompile(`<a href="([^"]*before=[^"]*)">Older`)
	pages := 0
	for path := "/jobs?state=done"; path != ""; pages++ {
		_, body := b.get(path)
		for _, m := range rows.FindAllStringSubmatch(body, -1) {
			seen[m[1]]++
		}
		path = ""
		if m := older.FindStringSubmatch(body); m != nil {
			path = strings.ReplaceAll(m[1], "&amp;", "&")
		}
	}
	for _, j := range js {
		if seen[string(j.ID)] != 1 {
			t.Errorf("%s is on %d pages", j.ID, seen[string(j.ID)])
		}
	}
	if len(seen) != len(js) || pages != 3 {
		t.Errorf("%d jobs on %d pages", len(seen), pages)
	}
	for path, want := range map[string]int{"/jobs?state=none": 400, "/jobs?kind=none": 400, "/jobs?before=x": 400, "/jobs/convert-none": 404, "/jobs/x": 404, "/rollouts/" + string(failed): 400} {
		if code, body := b.get(path); code != want {
			t.Errorf("%s: %d, want %d: %s", path, code, want, body)
		}
	}
}

// A job's page says what there is to know, also why it does not run.
func TestPageJob(t *testing.T) {
	p := startPagePool(t, console.Config{})
	b := p.operator()
	failed := p.submit(newArgs("debian:12", "registry.example.com/fails:1"), jobs.Options{Submitter: "ann"})
	p.ended(failed)
	p.until(b, "/jobs/"+string(failed), has("convert debian:12 to registry.example.com/fails:1", `class="state failed"`, "manifest unknown", "by ann", "Attempt 1",
		"layer converted", "size=1234", "a line", "worker-of-node-", "/retry"))
	waits := p.submit(restorejob.Args{Source: "registry.example.com/web:saved", Name: "web", Node: "elsewhere"}, jobs.Options{})
	p.until(b, "/jobs/"+string(waits), has("Why it is where it is", "no worker", "/cancel"))
	if _, body := b.get("/jobs/" + string(waits) + "/retry"); !strings.Contains(body, "Retry this job?") {
		t.Errorf("retry: %s", body)
	}
	done := p.submit(newArgs("debian:12", "registry.example.com/good:1"), jobs.Options{})
	p.ended(done)
	if _, body := b.get("/jobs/" + string(done)); !strings.Contains(body, `id="result"`) || strings.Contains(body, "/retry") || strings.Contains(body, "/cancel") {
		t.Errorf("done: %s", body)
	}
}

// Buttons do what the commands do, and say who it was.
func TestPageActions(t *testing.T) {
	p := startPagePool(t, console.Config{})
	b := p.operator()
	id := p.submit(newArgs("debian:12", "registry.example.com/holds:1"), jobs.Options{})
	p.until(b, "/jobs?state=running", has(string(id)))
	path := "/jobs/" + string(id)
	if _, body := b.get(path + "/cancel"); !strings.Contains(body, "Cancel this job?") || !strings.Contains(body, `action="`+path+`/cancel"`) {
		t.Errorf("before it is cancelled: %s", body)
	}
	if resp, body := b.post(path+"/cancel", nil, http.Header{"Sec-Fetch-Site": {"same-origin"}}); resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != path {
		t.Errorf("cancel: %d %s", resp.StatusCode, body)
	}
	if st, err := p.Get(t.Context(), id); err != nil || st.State != jobs.Cancelled || st.Reason != "cancelled in the console by operator" {
		t.Errorf("%+v, %v", st.Record, err)
	}
	if resp, _ := b.post(path+"/retry", nil, nil); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("retry: %d", resp.StatusCode)
	}
	close(p.release)
	if st, err := p.Wait(t.Context(), id); err != nil || st.State != jobs.Done {
		t.Errorf("%+v, %v", st.Record, err)
	}
	if resp, body := b.post(path+"/cancel", nil, nil); resp.StatusCode != http.StatusConflict || !strings.Contains(body, `role="alert"`) {
		t.Errorf("cancel what is done: %d %s", resp.StatusCode, body)
	}
}

// Somebody with a token sees the jobs of their grants' tenants, and of nobody else.
func TestPageTenants(t *testing.T) {
	ci := consoletest.New(t)
	cfg, err := load(t, config(ci.URL))
	if err != nil {
		t.Fatal(err)
	}
	p := startPagePool(t, cfg)
	target := "registry.example.com/acme/fails:1"
	ours, theirs := p.submit(newArgs("debian:12", target), jobs.Options{Tenant: "acme"}), p.submit(newArgs("debian:12", target), jobs.Options{Tenant: "hub"})
	held := p.submit(newArgs("debian:12", "registry.example.com/acme/holds:1"), jobs.Options{Tenant: "acme"})
	p.ended(ours, theirs)
	p.until(p.operator(), "/jobs?state=failed", has(string(ours), string(theirs), "2 jobs"))
	if err := p.Control(t.Context(), func(c *queue.Controls) error {
		for _, tenant := range []string{"acme", "hub"} {
			c.Pauses = append(c.Pauses, queue.Pause{Selector: queue.Selector{Tenant: tenant}, Reason: "because of " + tenant})
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	b := p.browser()
	b.login(ci.Token(nil))
	if _, body := b.get("/"); !strings.Contains(body, "because of acme") || strings.Contains(body, "because of hub") {
		t.Errorf("pauses: %s", body)
	}
	for _, path := range []string{"/", "/jobs", "/jobs?state=failed"} {
		if body := p.until(b, path, has(string(ours))); strings.Contains(body, string(theirs)) {
			t.Errorf("%s shows another tenant's job", path)
		}
	}
	if _, body := b.get("/jobs?state=failed"); !strings.Contains(body, "1 job,") {
		t.Errorf("count: %s", body)
	}
	for _, path := range []string{"", "/log", "/cancel"} {
		if code, _ := b.get("/jobs/" + string(theirs) + path); code != http.StatusNotFound {
			t.Errorf("another tenant's job%s: %d", path, code)
		}
	}
	if resp, _ := b.post("/jobs/"+string(theirs)+"/cancel", nil, nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("cancel another tenant's job: %d", resp.StatusCode)
	}
	if resp, _ := b.post("/jobs/"+string(ours)+"/retry", nil, nil); resp.StatusCode != http.StatusForbidden {
		t.Errorf("retry: %d", resp.StatusCode)
	}
	if _, body := b.get("/jobs/" + string(ours)); strings.Contains(body, "/retry") {
		t.Error("retry is offered")
	}
	if resp, _ := b.post("/jobs/"+string(held)+"/cancel", nil, nil); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("cancel: %d", resp.StatusCode)
	}
	if resp, body := p.browser().post("/login", url.Values{"secret": {ci.Token(map[string]any{"exp": time.Now().Add(-time.Hour).Unix()})}}, nil); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("expired token: %d %s", resp.StatusCode, body)
	}
}

// What changes is sent, and a job that comes is there.
func TestPageLive(t *testing.T) {
	p := startPagePool(t, console.Config{})
	b := p.operator()
	overview, stop := b.follow("/")
	await(t, overview, has("All is well", "worker-of-node-2"))
	list, _ := b.follow("/jobs")
	await(t, list, has("No job is like that"))
	id := p.submit(newArgs("debian:12", "registry.example.com/holds:1"), jobs.Options{})
	row := fmt.Sprintf(`<tr id="row-%s">`, id)
	await(t, list, has(row, `class="state running"`))
	job, _ := b.follow("/jobs/" + string(id))
	await(t, job, has("layer converted", `class="state running"`))
	log, _ := b.follow("/jobs/" + string(id) + "/log")
	await(t, log, has("a line"))
	close(p.release)
	await(t, list, has(row, `class="state done"`))
	await(t, job, has(`class="state done"`, `id="result"`))
	await(t, log, func(e string) bool { return strings.HasPrefix(e, "end\n") })
	stop()
	p.submit(newArgs("debian:12", "registry.example.com/fails:1"), jobs.Options{})
	await(t, list, has("manifest unknown"))
}

// Log parts that were shown are not sent again.
func TestPageLogGoesOn(t *testing.T) {
	p := startPagePool(t, console.Config{})
	b := p.operator()
	id := p.submit(newArgs("debian:12", "registry.example.com/good:1"), jobs.Options{})
	p.ended(id)
	_, body := b.get("/jobs/" + string(id))
	at := regexp.MustCompile(`hx-sse:connect="(/jobs/[^"]*/log\?after=[1-9][0-9]*)"`).FindStringSubmatch(body)
	if at == nil {
		t.Fatal(body)
	}
	events, _ := b.follow(at[1])
	if e := await(t, events, func(string) bool { return true }); !strings.HasPrefix(e, "end\n") {
		t.Errorf("sent again: %s", e)
	}
}
