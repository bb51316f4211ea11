package console_test

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lithify/lithify/console"
	"github.com/lithify/lithify/jobs"
)

var shots = flag.String("shots", "", "directory for pictures of all pages as Chromium shows them: go test ./console -run Chromium -shots DIR")

// chromium is a real browser, driven by test/tools/browser.
type chromium struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Scanner
}

func startChromium(t *testing.T) *chromium {
	t.Helper()
	for _, name := range []string{"chromium", "browser"} {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is not here, which test/tools/install.sh installs: %v", name, err)
			}
			t.Skipf("needs %s, see test/tools/install.sh", name)
		}
	}
	cmd := exec.CommandContext(t.Context(), "browser")
	cmd.Stderr = t.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 8<<20)
	return &chromium{t, in, lines}
}

// do has the browser do one thing, and gives what it says; see test/tools/browser.
func (c *chromium) do(verb string, args map[string]any) any {
	c.t.Helper()
	command := map[string]any{"do": verb}
	for k, v := range args {
		command[k] = v
	}
	if err := json.NewEncoder(c.in).Encode(command); err != nil {
		c.t.Fatal(err)
	}
	if !c.out.Scan() {
		c.t.Fatalf("%s: the browser is gone: %v", verb, c.out.Err())
	}
	var answer struct {
		Value any
		Error string
	}
	if err := json.Unmarshal(c.out.Bytes(), &answer); err != nil {
		c.t.Fatal(err)
	}
	if answer.Error != "" {
		body := ""
		if verb != "value" {
			body = fmt.Sprint(c.value("document.body.innerText"))
		}
		c.t.Fatalf("%s\n%s\n%v", answer.Error, body, c.problems())
	}
	return answer.Value
}

func (c *chromium) value(expression string) any {
	c.t.Helper()
	return c.do("value", map[string]any{"expression": expression})
}

func (c *chromium) wait(expression string) {
	c.t.Helper()
	c.do("wait", map[string]any{"expression": expression})
}

func (c *chromium) open(url string) { c.t.Helper(); c.do("open", map[string]any{"url": url}) }

func (c *chromium) problems() (list []string) {
	if all, ok := c.do("problems", nil).([]any); ok {
		for _, p := range all {
			list = append(list, fmt.Sprint(p))
		}
	}
	return list
}

func (c *chromium) fine(what string) {
	c.t.Helper()
	for _, p := range c.problems() {
		c.t.Errorf("%s: %s", what, p)
	}
}

func (c *chromium) login(url string) {
	c.t.Helper()
	c.open(url + "/login")
	c.do("fill", map[string]any{"selector": "#secret", "text": operatorKey})
	c.do("click", map[string]any{"selector": ".login button"})
	c.wait("document.querySelector('#live.fresh')")
}

func (c *chromium) shot(name string) {
	c.t.Helper()
	if *shots != "" {
		c.do("shot", map[string]any{"file": filepath.Join(*shots, name+".png")})
	}
}

// fill gives a pool jobs of all sorts, and a rollout in its second wave.
func (p *pagePool) fill(n int) (failed, held, waits, rollout jobs.ID) {
	p.t.Helper()
	var js []jobs.Job
	for i := range n {
		js = append(js, newJob(p.t, newArgs("debian:12", text(i)), jobs.Options{}))
	}
	if _, err := p.SubmitAll(p.t.Context(), js); err != nil {
		p.t.Fatal(err)
	}
	rollout = p.submit(newRollout("web", 9, 3), jobs.Options{Submitter: "ann", Priority: jobs.Interactive})
	failed = p.submit(newArgs("debian:12", "registry.example.com/acme/fails:1"), jobs.Options{Submitter: hostile, Priority: jobs.Interactive})
	held = p.submit(newArgs("debian:12", "registry.example.com/acme/holds:1"), jobs.Options{Priority: jobs.Interactive})
	waits = p.submit(rolloutArgsElsewhere(), jobs.Options{})
	p.ended(failed, js[len(js)-1].ID)
	b := p.operator()
	p.until(b, "/rollouts/"+string(rollout), func(body string) bool { return strings.Contains(section(body, 1), "running") })
	return failed, held, waits, rollout
}

func rolloutArgsElsewhere() jobs.Args {
	a := newRollout("db", 2, 1)
	a.Nodes = []string{"node-7", "node-8"}
	return a
}

// Every page, at the width of a phone and of a desk, in the dark and in the light: the browser has
// nothing to complain of, nothing is wider than the window, and each region says that it is live.
func TestChromiumPages(t *testing.T) {
	c := startChromium(t)
	p := startPagePool(t, console.Config{})
	n := 2000
	if testing.Short() {
		n = 200
	}
	failed, held, waits, rollout := p.fill(n)
	pages := map[string]string{
		"overview": "/", "jobs": "/jobs", "failed": "/jobs?state=failed", "job-failed": "/jobs/" + string(failed), "job-running": "/jobs/" + string(held),
		"job-waiting": "/jobs/" + string(waits), "cancel": "/jobs/" + string(held) + "/cancel", "rollouts": "/rollouts", "rollout": "/rollouts/" + string(rollout),
	}
	for _, screen := range []struct {
		name          string
		width, height int
		dark          bool
	}{{"desk", 1280, 800, false}, {"phone", 390, 844, false}, {"desk-dark", 1280, 800, true}, {"phone-dark", 390, 844, true}} {
		t.Run(screen.name, func(t *testing.T) {
			if testing.Short() && screen.name != "desk" && screen.name != "phone-dark" {
				t.Skip("not in the short lane: the other width in the other light shows the same")
			}
			c.t = t
			c.do("size", map[string]any{"width": screen.width, "height": screen.height, "dark": screen.dark})
			c.open(p.url + "/login")
			c.shot(screen.name + "-login")
			c.login(p.url)
			for name, path := range pages {
				c.open(p.url + path)
				if name != "cancel" {
					c.wait("document.querySelector('#live.fresh')")
				}
				if wide := c.value("document.documentElement.scrollWidth - window.innerWidth").(float64); wide > 0 {
					t.Errorf("%s is %v pixels wider than the window", name, wide)
				}
				if xss := c.value("document.querySelectorAll('main script, main img').length").(float64); xss > 0 {
					t.Errorf("%s: what a job says became an element", name)
				}
				c.audit(name)
				c.shot(screen.name + "-" + name)
				c.fine(name)
			}
			c.open(p.url + "/jobs/" + string(held) + "/none")
			if list := c.problems(); len(list) == 0 {
				t.Error("a page that is not there is no problem: the list of problems tells nothing")
			}
		})
	}
	c.t = t
}

// audit looks for what a screen reader or a keyboard would miss.
func (c *chromium) audit(page string) {
	c.t.Helper()
	for what, expression := range map[string]string{
		"no single h1":                "document.querySelectorAll('h1').length === 1 ? 0 : 1",
		"no language":                 "document.documentElement.lang ? 0 : 1",
		"controls without a label":    "[...document.querySelectorAll('select, input:not([type=hidden])')].filter(e => !e.labels.length).length",
		"links or buttons of no name": "[...document.querySelectorAll('a, button')].filter(e => !e.textContent.trim()).length",
		"pictures of no name":         "[...document.querySelectorAll('svg, meter')].filter(e => !e.getAttribute('aria-label')).length",
		"IDs that are there twice":    "(ids => ids.length - new Set(ids).size)([...document.querySelectorAll('[id]')].map(e => e.id))",
		"cells of no column or row":   "[...document.querySelectorAll('table')].filter(e => !e.querySelector('th[scope]')).length",
		"labels of nothing":           "[...document.querySelectorAll('[aria-labelledby]')].filter(e => !document.getElementById(e.getAttribute('aria-labelledby'))).length",
	} {
		if n := c.value(expression).(float64); n > 0 {
			c.t.Errorf("%s: %s: %v", page, what, n)
		}
	}
}

// A row that comes, and one that changes, is there without anybody asking, and what somebody has
// reached by keyboard stays in hand.
func TestChromiumLive(t *testing.T) {
	c := startChromium(t)
	p := startPagePool(t, console.Config{})
	c.do("size", map[string]any{"width": 1280, "height": 800})
	c.login(p.url)
	c.open(p.url + "/jobs")
	c.wait("document.querySelector('#live.fresh')")
	id := p.submit(newArgs("debian:12", "registry.example.com/acme/holds:1"), jobs.Options{})
	row := fmt.Sprintf("document.querySelector('#row-%s')", id)
	begin := time.Now()
	c.wait(row + "?.querySelector('.state.running')")
	t.Logf("row there %v after it was submitted", time.Since(begin))
	c.value(row + ".querySelector('a').focus()")
	c.value(row + ".dataset.same = 'yes'; 1")
	other := p.submit(newArgs("debian:12", "registry.example.com/acme/fails:1"), jobs.Options{})
	begin = time.Now()
	c.wait(fmt.Sprintf("document.querySelector('#row-%s .state.failed')", other))
	t.Logf("failed row there %v after it was submitted", time.Since(begin))
	if c.value(row+".contains(document.activeElement)") != true {
		t.Error("the keyboard's place is lost")
	}
	c.fine("jobs")

	c.open(p.url + "/jobs/" + string(id))
	c.wait("document.querySelector('#printed').textContent.includes('a line')")
	c.wait("document.querySelector('#region .state.running')")
	close(p.release)
	c.wait("document.querySelector('#region .state.done')")
	if said := fmt.Sprint(c.value("document.querySelector('#printed').textContent")); strings.Count(said, "a line") != 1 || !strings.Contains(said, `<script>alert("owned")</script>`) {
		t.Errorf("log: %s", said)
	}
	c.fine("job")

	rollout := p.submit(newRollout("web", 4, 2), jobs.Options{})
	c.open(p.url + "/rollouts/" + string(rollout))
	c.wait("document.querySelector('#container-web-1 .state.running') && document.querySelector('#container-web-4 .state.wanted')")
	c.do("click", map[string]any{"selector": ".actions a[href$='/pause']"})
	c.do("fill", map[string]any{"selector": "#reason", "text": "node-1 is odd"})
	c.shot("pause")
	c.do("click", map[string]any{"selector": "button.pause"})
	c.wait("document.querySelector('#paused')?.textContent.includes('Paused by operator since') && document.querySelector('#paused').textContent.includes(': node-1 is odd.')")
	c.shot("paused")
	close(p.gate)
	c.wait("document.querySelector('#why') && document.querySelector('#container-web-2 .state.done') && document.querySelector('#container-web-4 .state.wanted')")
	c.do("click", map[string]any{"selector": ".actions a[href$='/resume']"})
	c.do("click", map[string]any{"selector": "button.resume"})
	c.wait("document.querySelector('#container-web-3 .state.failed') && document.querySelector('#container-web-4 .state.done')")
	c.wait("document.querySelector('.lead .state.done')")
	c.fine("rollout")
}

// A page that is not kept up to date any more says so.
func TestChromiumStale(t *testing.T) {
	c := startChromium(t)
	p := startPagePool(t, console.Config{})
	c.login(p.url)
	c.fine("overview")
	p.stopConsole()
	c.wait("document.querySelector('#live.stale')")
	if said := fmt.Sprint(c.value("document.querySelector('#live').textContent")); !strings.Contains(said, "cannot be reached. This is how it was at") {
		t.Error(said)
	}
	if c.value("document.body.innerText.includes('worker-of-node-1')") != true {
		t.Error("what was known is gone")
	}
	c.shot("stale")
}
