//go:build linux

package chaos_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/test/chaos/history"
	"github.com/lithify/lithify/test/chaos/proxy"
)

// load submits jobs, cancels some, and submits some of these again.
type load struct {
	w     *world
	name  string
	c     *queue.Client
	proxy *proxy.Proxy
	rand  *rand.Rand
	made  int
	steps []jobs.Job
}

func (w *world) newLoad(name string, stream uint64) *load {
	w.t.Helper()
	p, err := proxy.New(w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(p.Close)
	return &load{w: w, name: name, c: w.connect(name, p.URL()), proxy: p, rand: rand.New(rand.NewPCG(uint64(*seed), stream))}
}

// run submits until ctx is done, a job each pause on average, as long as no more
// than open jobs have not ended.
func (l *load) run(ctx context.Context, pause time.Duration, open int) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(l.rand.Int64N(int64(2 * pause)))):
		}
		if l.w.log.open() > open {
			continue
		}
		switch n := l.rand.IntN(100); {
		case n < 8 && len(l.steps) > 0:
			l.cancel(ctx, l.steps[l.rand.IntN(len(l.steps))])
		case n < 12 && len(l.steps) > 0:
			l.submit(ctx, l.steps[l.rand.IntN(len(l.steps))], history.Done)
		case n < 18:
			j, _ := l.campaign()
			l.submit(ctx, j, history.Done)
		default:
			j, want := l.step()
			l.submit(ctx, j, want)
		}
	}
}

func (l *load) step() (jobs.Job, history.State) {
	l.made++
	a, want := step{Key: fmt.Sprintf("%s-step-%d", l.name, l.made), Millis: 10 + l.rand.IntN(490)}, history.Done
	switch n := l.rand.IntN(100); {
	case n < 4:
		a.Ends, want = refuse, history.Failed
	case n < 6:
		a.Ends, want = panics, history.Dead
	}
	j := job(a)
	if a.Ends == fine {
		l.steps = append(l.steps, j)
	}
	return j, want
}

func (l *load) campaign() (jobs.Job, campaign) {
	l.made++
	c := campaign{Key: fmt.Sprintf("%s-campaign-%d", l.name, l.made)}
	for i := range 1 + l.rand.IntN(3) {
		c.Images = append(c.Images, image{fmt.Sprintf("%s-%d", c.Key, i), layers(l.rand, l.made/16, 1+l.rand.IntN(4))})
	}
	return job(c), c
}

// submit notes a submission that was acknowledged. After an error the same job is
// submitted again, as the contract of Submit says.
func (l *load) submit(ctx context.Context, j jobs.Job, want history.State) {
	for ctx.Err() == nil {
		st, err := l.c.Submit(ctx, j)
		if err == nil {
			l.w.log.submission(history.Submission{ID: string(st.ID), Generation: st.Generation, At: time.Now(), Want: want})
			return
		}
	}
}

func (l *load) cancel(ctx context.Context, j jobs.Job) {
	st, err := l.c.Cancel(ctx, j.ID, history.Asked)
	if err == nil {
		l.w.log.cancel(history.Cancel{ID: string(st.ID), Generation: st.Generation, At: time.Now()})
	}
}
