package console_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/lithify/lithify/console"
	"github.com/lithify/lithify/console/consoletest"
	"github.com/lithify/lithify/jobs"
)

// A rollout is shown wave by wave and node by node while it goes on, by its real jobs.
func TestPageRollout(t *testing.T) {
	p := startPagePool(t, console.Config{})
	b := p.operator()
	args := newRollout("web", 5, 2)
	id := p.submit(args, jobs.Options{})
	path := "/rollouts/" + string(id)
	p.until(b, "/rollouts", has(string(id), path))

	first := p.until(b, path, func(body string) bool { return strings.Count(body, `class="state running"`) >= 3 }) // the legend's and two
	for wave, want := range []string{"2 running", "not begun: 2", "not begun: 1"} {
		if !strings.Contains(section(first, wave+1), want) {
			t.Errorf("wave %d, want %q: %s", wave+1, want, section(first, wave+1))
		}
	}
	if !strings.Contains(first, "0 of 5 done") || !strings.Contains(first, `aria-label="0 of 5 replicas done, 0 failed, 2 running, 3 wanted"`) {
		t.Errorf("progress: %s", first)
	}
	live, _ := b.follow(path)
	await(t, live, has("0 of 5 done"))
	close(p.gate)
	last := await(t, live, has("4 of 5 done", "1 failed, 1 may", `<p class="lead"><span class="state done">done</span>`))
	if s := section(last, 2); !strings.Contains(s, "1 failed, 1 done") || !strings.Contains(s, "no CRIU on node-1 &lt;script&gt;") {
		t.Errorf("wave 2: %s", s)
	}
	if node := between(last, `<tr id="node-node-1">`, "</tr>"); !strings.Contains(node, "1 failed, 2 done") {
		t.Errorf("node: %s", node)
	}
}

// One that is cancelled in the middle says what is left, and what removes it.
func TestPageRolloutCancelled(t *testing.T) {
	p := startPagePool(t, console.Config{})
	b := p.operator()
	id := p.submit(newRollout("web", 4, 1), jobs.Options{})
	path := "/rollouts/" + string(id)
	p.until(b, path, func(body string) bool { return strings.Contains(section(body, 1), "1 running") })
	if _, body := b.get("/jobs/" + string(id) + "/cancel"); !strings.Contains(body, "lithify rollout abort "+string(id)) {
		t.Errorf("before it is cancelled: %s", body)
	}
	if resp, _ := b.post("/jobs/"+string(id)+"/cancel", nil, nil); resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != path {
		t.Errorf("cancel: %d to %s", resp.StatusCode, resp.Header.Get("Location"))
	}
	p.until(b, path, has(`class="state cancelled"`, "cancelled in the console by operator", "lithify rollout abort "+string(id)))
}

// One is paused and resumed there, by whoever may cancel it, and nothing of it begins meanwhile.
func TestPageRolloutPaused(t *testing.T) {
	ci := consoletest.New(t)
	cfg, err := load(t, config(ci.URL))
	if err != nil {
		t.Fatal(err)
	}
	p := startPagePool(t, cfg)
	b, guest := p.operator(), p.browser()
	guest.login(ci.Token(nil))
	ours, theirs := p.submit(newRollout("web", 4, 2), jobs.Options{Tenant: "acme"}), p.submit(newRollout("hub", 2, 1), jobs.Options{Tenant: "hub"})
	path, act := "/rollouts/"+string(ours), "/jobs/"+string(ours)
	p.until(b, path, func(body string) bool { return strings.Contains(section(body, 1), "2 running") })
	live, _ := b.follow(path)
	await(t, live, has(act+"/pause"))

	if _, body := guest.get(act + "/pause"); !strings.Contains(body, `name="reason"`) || !strings.Contains(body, "no other wave") {
		t.Errorf("before it is paused: %s", body)
	}
	if resp, body := guest.post(act+"/pause", url.Values{"reason": {hostile}}, nil); resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, "control characters") {
		t.Errorf("pause for a reason that a terminal does not show as it is: %d %s", resp.StatusCode, body)
	}
	if resp, _ := guest.post(act+"/pause", url.Values{"reason": {" node-1 is odd " + strings.ReplaceAll(hostile, "\r", "")}}, nil); resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != path {
		t.Errorf("pause: %d to %s", resp.StatusCode, resp.Header.Get("Location"))
	}
	if resp, _ := b.post("/jobs/"+string(theirs)+"/pause", nil, nil); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("pause of another tenant's by an operator: %d", resp.StatusCode)
	}
	await(t, live, has(`id="paused">Paused by `, ": node-1 is odd &lt;script&gt;", act+"/resume"))
	if _, body := guest.get("/"); !strings.Contains(body, path) || strings.Contains(body, "/rollouts/"+string(theirs)) {
		t.Errorf("overview: %s", body)
	}
	for what, want := range map[string]int{string(theirs) + "/pause": http.StatusNotFound, string(theirs) + "/resume": http.StatusNotFound} {
		if resp, _ := guest.post("/jobs/"+what, nil, nil); resp.StatusCode != want {
			t.Errorf("%s by somebody of another tenant: %d, want %d", what, resp.StatusCode, want)
		}
	}
	close(p.gate)
	p.until(b, path, func(body string) bool {
		return strings.Contains(section(body, 1), "2 done") && strings.Contains(body, "job "+string(ours)+" is paused since")
	})

	if resp, _ := guest.post(act+"/resume", nil, nil); resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != path {
		t.Errorf("resume: %d to %s", resp.StatusCode, resp.Header.Get("Location"))
	}
	last := p.until(b, path, has("3 of 4 done", "1 failed, 1 may", `<p class="lead"><span class="state done">done</span>`))
	if strings.Contains(last, `id="paused"`) || strings.Contains(last, act+"/pause") {
		t.Errorf("it has ended, and shows a pause: %s", last)
	}
	for what, want := range map[string]string{act + "/pause": "is done", act + "/resume": "is done, and not paused"} {
		if resp, body := b.post(what, nil, nil); resp.StatusCode != http.StatusConflict || !strings.Contains(body, want) {
			t.Errorf("%s at the end: %d %s", what, resp.StatusCode, body)
		}
	}
	held := p.submit(newArgs("debian:12", "registry.example.com/acme/holds:1"), jobs.Options{})
	if resp, body := b.post("/jobs/"+string(held)+"/pause", nil, nil); resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, "no rollout") {
		t.Errorf("pause of a conversion: %d %s", resp.StatusCode, body)
	}
	if resp, _ := p.browser().post("/jobs/"+string(theirs)+"/resume", nil, nil); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("resume by nobody: %d", resp.StatusCode)
	}
}

// section is what a page has of a wave.
func section(body string, wave int) string {
	return between(body, `<h2 id="wave-`+string(rune('0'+wave))+`">`, "</section>")
}

func between(s, begin, end string) string {
	_, s, _ = strings.Cut(s, begin)
	s, _, _ = strings.Cut(s, end)
	return s
}
