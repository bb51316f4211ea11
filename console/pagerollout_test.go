package console_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/lithify/lithify/console"
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

// section is what a page has of a wave.
func section(body string, wave int) string {
	return between(body, `<h2 id="wave-`+string(rune('0'+wave))+`">`, "</section>")
}

func between(s, begin, end string) string {
	_, s, _ = strings.Cut(s, begin)
	s, _, _ = strings.Cut(s, end)
	return s
}
