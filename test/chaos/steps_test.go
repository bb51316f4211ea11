//go:build linux

package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lithify/lithify/test/chaos/history"
	"github.com/lithify/lithify/test/chaos/proxy"
)

// TestEveryStep kills, stops or freezes whoever is about to do a job's next step, at
// every step of its life, one job for each. A step is a message about it: one that a
// worker or a scheduler sends, or that the server is to get or to send. Frozen means for
// longer than a claim or a leader's lease lasts; what was about to be sent is sent then.
func TestEveryStep(t *testing.T) {
	for _, who := range []struct {
		name  string
		walks int // share the steps, in a long run
	}{{"worker", 1}, {"scheduler", 1}, {history.Server, 4}} {
		walks := who.walks
		if testing.Short() {
			walks = 1
		}
		for _, kind := range []history.Kind{history.Kill, history.Term, history.Freeze} {
			for first := range walks {
				t.Run(fmt.Sprintf("%s %s %d", kind, who.name, first+1), func(t *testing.T) {
					t.Parallel()
					w := newWorld(t, "")
					for _, name := range []string{"s1", "s2", "w1", "w2"} {
						w.node(name)
					}
					newWalk(w, who.name, kind).run(first+1, walks)
					w.finish()
				})
			}
		}
	}
}

// walk strikes at one step of each job.
type walk struct {
	w    *world
	load *load
	who  string // worker, scheduler or server
	kind history.Kind

	mu      sync.Mutex
	keys    []string        // of the jobs whose steps count
	replies map[string]bool // subjects of answers to their messages
	seen    int             // steps so far
	at      int             // the step at which to strike
	struck  string          // the victim, once it was
	strikes sync.WaitGroup
}

func newWalk(w *world, who string, kind history.Kind) *walk {
	k := &walk{w: w, load: w.newLoad("load", 0), who: who, kind: kind}
	for name, n := range w.nodes {
		k.watch(name, n)
	}
	if who == history.Server {
		k.load.proxy.Watch(func(m proxy.Message) (bool, func()) { return k.step("load", k.load.proxy, m) })
	}
	return k
}

func (k *walk) watch(name string, n *node) {
	tap := proxy.Tap(func(m proxy.Message) (bool, func()) { return k.step(name, n.proxy, m) })
	if k.who == history.Server || strings.HasPrefix(name, k.who[:1]) {
		n.tap.Store(&tap)
	}
}

// run lets a job live without a fault, to count its steps, and then one after the other
// with a fault at the first of its steps that are of this walk, the second, and so on;
// in a short run at one of them. The next life has a few steps more or fewer.
func (k *walk) run(first, stride int) {
	k.w.t.Helper()
	steps := k.life(0)
	if steps < fewestSteps {
		k.w.t.Fatalf("saw %d steps of a job's life, of at least %d", steps, fewestSteps)
	}
	if testing.Short() {
		n := 1 + rand.New(rand.NewPCG(uint64(*seed), uint64(steps))).IntN(steps)
		for ; k.struck == "" && n > 0; n-- { // it may have had fewer this time
			k.w.t.Logf("seed %d: step %d of %d", *seed, n, steps)
			k.life(n)
		}
		if k.struck == "" {
			k.w.t.Error("nobody was struck")
		}
		return
	}
	lives, slowest, at := 0, time.Duration(0), 0
	for n := first; ; n += stride {
		began := time.Now()
		k.life(n)
		if k.struck == "" { // the job ended before its n-th step
			k.w.t.Logf("struck at %d of %d steps; the job of step %d took the longest, %v", lives, steps, at, slowest.Round(time.Millisecond))
			if n < fewestSteps {
				k.w.t.Errorf("there was no step %d to strike at, of at least %d", n, fewestSteps)
			}
			return
		}
		lives++
		if took := time.Since(began); took > slowest {
			slowest, at = took, n
		}
	}
}

// fewestSteps is what a life has, whoever's they are, at least: image and layer are each
// admitted twice, of which a scheduler reads and publishes each time.
const fewestSteps = 8

// life has an image and its layer, which fails once, live from their submission until
// nothing is left to be done for them, with a fault at the n-th step, and gives the
// number of steps.
func (k *walk) life(n int) int {
	k.w.t.Helper()
	key := fmt.Sprintf("step-%d", n)
	l := layer{key, 20, second}
	i := job(image{key, []layer{l}})
	k.arm(n, i.ID.Key(), job(l).ID.Key())
	ctx, cancel := context.WithTimeout(k.w.t.Context(), patience)
	defer cancel()
	k.load.submit(ctx, i, history.Done)
	k.w.until("end of "+key, func(ctx context.Context) error {
		if k.w.log.open() > 0 {
			return errors.New("the observer has not seen it")
		}
		st, err := k.w.direct.Get(ctx, i.ID)
		if err != nil {
			return err
		}
		if !st.State.Ended() {
			return fmt.Errorf("%s is %s", st.ID, st.State)
		}
		left, err := k.w.left(ctx)
		if len(left) > 0 {
			return fmt.Errorf("left in WORK: %s", left)
		}
		return err
	})
	return k.disarm()
}

func (k *walk) arm(n int, keys ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys, k.at, k.seen, k.struck, k.replies = keys, n, 0, "", map[string]bool{}
}

func (k *walk) disarm() int {
	k.mu.Lock()
	k.keys = nil
	k.mu.Unlock()
	k.strikes.Wait()
	return k.seen
}

// step counts a message if it is a step, and strikes if it is the one. The message of
// who was killed is lost, and all that would have come behind it.
func (k *walk) step(name string, p *proxy.Proxy, m proxy.Message) (drop bool, sent func()) {
	k.mu.Lock()
	if !k.about(m) || k.who != history.Server && !m.Up {
		k.mu.Unlock()
		return false, nil
	}
	k.seen++
	strikes := k.seen == k.at
	if strikes {
		k.struck = name
		k.strikes.Add(1)
		k.w.log.remark("strike", fmt.Sprintf("step %d, %s: %s", k.seen, name, m.Subject))
	}
	k.mu.Unlock()
	switch {
	case !strikes:
		return false, nil
	case k.kind == history.Term: // it still says what it has to say
		go k.strike(name, p)
	default:
		k.strike(name, p)
	}
	return k.kind == history.Kill, nil
}

// about reports whether a message is about the jobs of this walk: it names one, or
// answers one that does. What workers announce goes by the clock.
func (k *walk) about(m proxy.Message) bool {
	if len(k.keys) == 0 || strings.HasPrefix(m.Subject, "$KV.") {
		return false
	}
	found := k.replies[m.Subject]
	for _, key := range k.keys {
		found = found || strings.Contains(m.Subject, key) || strings.Contains(m.Header, key) || strings.Contains(string(m.Data), key)
	}
	if found && m.Reply != "" {
		k.replies[m.Reply] = true
	}
	return found
}

// away is longer than what anybody may be away for: a claim, and a leader's lease of 3 s.
const away = max(ackWait, 3*time.Second) + time.Second/2

func (k *walk) strike(name string, p *proxy.Proxy) {
	victim := k.w.server
	proxies := []*proxy.Proxy{k.load.proxy}
	if k.who != history.Server {
		victim, proxies = k.w.nodes[name].process, []*proxy.Proxy{p}
	} else {
		for _, n := range k.w.nodes {
			proxies = append(proxies, n.proxy)
		}
	}
	defer k.strikes.Done()
	f := history.Fault{Kind: k.kind, Victim: victim.name, From: time.Now()}
	switch k.kind {
	case history.Kill:
		victim.end(syscall.SIGKILL, restart)
		for _, p := range proxies {
			p.Cut() // what it had sent behind the message is still on its way here
		}
	case history.Term:
		victim.end(syscall.SIGTERM, restart)
	default:
		victim.signal(syscall.SIGSTOP)
		<-time.After(away)
		victim.signal(syscall.SIGCONT)
	}
	f.Until = time.Now()
	k.w.log.fault(f)
}
