package queue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

// read gives the IDs of the records that a start from a mark reads, in order.
func (p *pool) read(m queue.Mark) (ids []jobs.ID) {
	p.t.Helper()
	for ch, err := range p.FollowRecords(p.t.Context(), m) {
		if err != nil && !errors.Is(err, queue.ErrUnreadable) {
			p.t.Fatal(err)
		}
		if ch.Record.ID != "" {
			ids = append(ids, ch.Record.ID)
		}
		if ch.Last {
			break
		}
	}
	return ids
}

func (p *pool) mark() queue.Mark {
	p.t.Helper()
	m, err := p.GetMark(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	return m
}

// A start passes over the jobs that ended, and over no other: a delayed one that is
// older than they are, one that came after the mark, one that changed since.
func TestMark(t *testing.T) {
	p := newPool(t)
	stop := p.run("scheduler", scheduler.New(p.connect("scheduler"), validators, scheduler.Config{Sweep: 20 * time.Millisecond}).Run)
	p.worker(handle(func(context.Context, testArgs) (any, error) { return "ok", nil }), worker.Config{Name: "w1"})
	old := p.submit(testArgs{Name: "old"}, jobs.Options{NotBefore: time.Now().Add(time.Hour), Timeout: 2 * time.Hour})
	for i := range 20 {
		p.waitState(p.submit(testArgs{Name: fmt.Sprint(i)}, jobs.Options{}).ID, jobs.Done)
	}
	done := p.submit(testArgs{Name: "last"}, jobs.Options{})
	revision := p.waitState(done.ID, jobs.Done).Revision
	p.until("mark behind all that ended", func() bool { return p.mark().Revision > revision })
	stop()
	m := p.mark()
	if !slices.Equal(m.Open, []jobs.ID{old.ID}) {
		t.Errorf("open: %v", m.Open)
	}
	late := p.submit(testArgs{Name: "late"}, jobs.Options{NotBefore: time.Now().Add(time.Hour), Timeout: 2 * time.Hour})
	if got := p.read(m); !slices.Equal(got, []jobs.ID{old.ID, late.ID}) {
		t.Errorf("read %v", got)
	}
	if _, err := p.Cancel(t.Context(), old.ID, "enough"); err != nil {
		t.Fatal(err)
	}
	if got := p.read(m); !slices.Equal(got, []jobs.ID{late.ID, old.ID}) {
		t.Errorf("after a change, read %v", got)
	}
	behind := m
	behind.Written = p.get(old.ID).Revision + 1 // a mark that is not there yet looks so on a replica that lags
	if got := p.read(behind); len(got) != 23 {
		t.Errorf("of a replica that has not heard of the mark %d records were read, want all", len(got))
	}
	m.Open = append(m.Open, "test-forgotten")
	if got := p.read(m); len(got) != 23 {
		t.Errorf("by a mark that names a job which is gone %d records were read, want all", len(got))
	}
	p.scheduler(scheduler.Config{Sweep: 20 * time.Millisecond})
	p.waitState(p.submit(testArgs{Name: "now"}, jobs.Options{}).ID, jobs.Done)
	p.until("mark that names the late one", func() bool { return slices.Equal(p.mark().Open, []jobs.ID{late.ID}) })
}

// What this version cannot read the next one may: no mark passes over it.
func TestMarkOfAnUnreadableRecord(t *testing.T) {
	p := newPool(t)
	if err := p.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	const later = jobs.ID("test-later")
	p.store(later, `{"id":"test-later","kind":"test","class":"test"}`,
		`{"id":"test-later","class":"test","state":"dreaming","generation":1,"max_attempts":5}`)
	p.scheduler(scheduler.Config{Sweep: 20 * time.Millisecond})
	p.worker(handle(func(context.Context, testArgs) (any, error) { return "ok", nil }), worker.Config{Name: "w1"})
	p.waitState(p.submit(testArgs{}, jobs.Options{}).ID, jobs.Done)
	p.until("mark", func() bool { return p.mark().Revision > 0 })
	unread := false
	for _, err := range p.FollowRecords(t.Context(), p.mark()) {
		if unread = errors.Is(err, queue.ErrUnreadable); unread || err != nil {
			break
		}
	}
	if !unread {
		t.Error("the mark passes over it")
	}
}

// One that is told to stop leaves a mark, so that a restart after a long day is short.
func TestMarkIsLeft(t *testing.T) {
	p := newPool(t)
	stop := p.run("scheduler", scheduler.New(p.connect("scheduler"), validators, scheduler.Config{Sweep: calm}).Run)
	p.worker(handle(func(context.Context, testArgs) (any, error) { return "ok", nil }), worker.Config{Name: "w1"})
	p.waitState(p.submit(testArgs{}, jobs.Options{}).ID, jobs.Done)
	var line []jobs.ID
	var st queue.Status
	for range 10 {
		st = p.submit(testArgs{}, jobs.Options{NotBefore: time.Now().Add(time.Hour), Timeout: 2 * time.Hour})
		line = append(line, st.ID)
	}
	if _, err := p.Explain(t.Context(), st.ID); err != nil { // so that the scheduler has heard of it
		t.Fatal(err)
	}
	stop()
	m := p.mark()
	if m.Revision != st.Revision+1 || len(m.Open) != len(line) {
		t.Errorf("mark %+v, the last record is %d", m, st.Revision)
	}
	if got := p.read(m); !slices.Equal(got, line) {
		t.Errorf("read %v, want them in the order in which they came: %v", got, line)
	}
}

// A request that is lost on the way, with a leader that dies for example, does not keep
// a start of a pool in which nothing happens from its end.
func TestAStartIsAskedAgain(t *testing.T) {
	const look = `"next_by_subj":"st.*.*.run"`
	p := newPool(t)
	p.setup()
	p.submit(testArgs{}, jobs.Options{})
	conn := &misled{subject: []byte(look), to: []byte(strings.Repeat("?", len(look)))}
	c, err := queue.Connect(t.Context(), queue.Config{ContextFile: p.cfg.ContextFile, Options: []nats.Option{nats.SetCustomDialer(conn)}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for ch, err := range c.FollowRecords(t.Context(), queue.Mark{Revision: 1 << 20}) {
		if err != nil || !ch.Last {
			t.Errorf("got %+v, %v", ch, err)
		}
		break
	}
	if !conn.once.Load() {
		t.Error("no request was lost")
	}
}
