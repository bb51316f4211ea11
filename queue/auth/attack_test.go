package auth_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/auth"
)

// forged are reply subjects by which a worker of images could have the server write
// for it what it may not write itself.
var forged = []string{"st.other.victim.run", "st.other.victim.spec", "ev.other.victim", "dlq.other.victim", "$KV.nodes.others.w1", "w.bulk.other.any.any.any.other-victim"}

// consumer makes the consumer of a class and puts messages into it.
func fill(t *testing.T, c *queue.Client, k jobs.Class, n int) (consumer string) {
	t.Helper()
	l := queue.Line{Priority: jobs.Bulk, Class: k}
	_, err := c.JetStream().CreateOrUpdateConsumer(t.Context(), queue.StreamWork, jetstream.ConsumerConfig{
		Durable: l.Consumer(), FilterSubject: l.Subject("*"), AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if _, err := c.JetStream().Publish(t.Context(), l.Subject(jobs.ID(fmt.Sprintf("%s-%d", k.Kind, i))), []byte("a job")); err != nil {
			t.Fatal(err)
		}
	}
	return l.Consumer()
}

func bulk(c jobs.Class) queue.Line { return queue.Line{Priority: jobs.Bulk, Class: c} }

// written is how much was ever written to each stream.
func written(t *testing.T, c *queue.Client) map[string]uint64 {
	t.Helper()
	seqs := map[string]uint64{}
	l := c.JetStream().ListStreams(t.Context())
	for s := range l.Info() {
		seqs[s.Config.Name] = s.State.LastSeq
	}
	if err := l.Err(); err != nil {
		t.Fatal(err)
	}
	return seqs
}

// delivered waits until the server has handed out n messages of a consumer.
func delivered(t *testing.T, c *queue.Client, consumer string, n uint64) {
	t.Helper()
	for tick, end := time.Tick(5*time.Millisecond), time.After(patience); ; {
		cons, err := c.JetStream().Consumer(t.Context(), queue.StreamWork, consumer)
		if err != nil {
			t.Fatal(err)
		}
		if cons.CachedInfo().Delivered.Consumer >= n {
			return
		}
		select {
		case <-tick:
		case <-end:
			t.Fatalf("%d messages delivered, want %d", cons.CachedInfo().Delivered.Consumer, n)
		}
	}
}

// Why workers have accounts: within one, a user who may do nothing but ask for
// messages and ack them has the server write into any stream. The request's reply
// subject is where the server delivers to, and nobody checks it.
func TestPermissionsAreNoBoundary(t *testing.T) {
	t.Parallel()
	const conf = `listen: "127.0.0.1:4222", jetstream { store_dir: %q }
accounts { CORE { jetstream: enabled, users: [
  { user: admin, password: a }
  { user: worker, password: a, permissions: {
      publish: { allow: ["$JS.API.CONSUMER.MSG.NEXT.WORK.%s", "$JS.ACK.WORK.%s.>"] }, subscribe: { allow: ["_INBOX.>"] } } }
] } }`
	k := class("image")
	path := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(path, fmt.Appendf(nil, conf, t.TempDir(), bulk(k).Consumer(), bulk(k).Consumer()), 0o600); err != nil {
		t.Fatal(err)
	}
	url := serve(t, path)
	c, err := queue.Connect(t.Context(), queue.Config{URL: "nats://admin:a@" + url[len("tls://"):]})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	consumer := fill(t, c, k, len(forged))
	nc, err := nats.Connect("nats://worker:a@" + url[len("tls://"):])
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	before := written(t, c)
	for i, reply := range forged {
		steal(t, nc, "$JS.API.CONSUMER.MSG.NEXT.WORK."+consumer, reply)
		delivered(t, c, consumer, uint64(i+1))
	}
	var after map[string]uint64
	for _, stream := range []string{"STATE", "EVENTS", "DLQ", "KV_nodes"} { // WORK takes one message of a subject
		for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) { // delivered first, stored then
			if after = written(t, c); after[stream] > before[stream] {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s: nothing written: the server has learnt to check reply subjects", stream)
			}
		}
	}
	s, err := c.JetStream().Stream(t.Context(), queue.StreamState)
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetMsg(t.Context(), after["STATE"])
	if err != nil {
		t.Fatal(err)
	}
	// Under the subject of the job's message, not the forged one: it is nobody's
	// record, and nobody removes it.
	if !strings.HasPrefix(m.Subject, "w.") || string(m.Data) != "a job" {
		t.Errorf("STATE holds %q at %q", m.Data, m.Subject)
	}
}

func steal(t *testing.T, nc *nats.Conn, next, reply string) {
	t.Helper()
	if err := nc.PublishRequest(next, reply, []byte(`{"batch":1,"no_wait":true}`)); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

// raw is a connection that keeps no rule but the server's.
func (p *pool) raw(key string) *nats.Conn {
	p.t.Helper()
	o, err := nats.NkeyOptionFromSeed(p.cfg.Path(key))
	if err != nil {
		p.t.Fatal(err)
	}
	nc, err := nats.Connect(p.url, o, nats.RootCAs(p.made.CA), nats.Timeout(patience))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(nc.Close)
	return nc
}

// The same by a worker of a pool as Init makes it changes nothing.
func TestForgedReplies(t *testing.T) {
	p := newPool(t)
	if err := p.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	consumer := fill(t, p.Client, class("image"), len(forged)+1)
	nc := p.raw(auth.WorkerKey("images"))
	before := written(t, p.Client)
	for i, reply := range append(forged, "st.image.victim.run") {
		// The server delivers where somebody listens: so the worker does.
		if _, err := nc.Subscribe(reply, func(*nats.Msg) {}); err != nil {
			t.Fatal(err)
		}
		steal(t, nc, "POOL.API.CONSUMER.MSG.NEXT.WORK."+consumer, reply)
		delivered(t, p.Client, consumer, uint64(i+1))
	}
	if diff := cmp.Diff(written(t, p.Client), before); diff != "" {
		t.Errorf("written by a reply -after +before:\n%s", diff)
	}
}

// A worker sees nothing of jobs that are not of its kinds, and changes nothing.
func TestWorkersAreApart(t *testing.T) {
	p := newPool(t)
	if err := p.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	other := p.submit(p.Client, otherArgs{"hunter2"})
	mine := p.submit(p.Client, imageArgs{})
	fill(t, p.Client, class("other"), 1)
	before := written(t, p.Client)
	nc := p.raw(auth.WorkerKey("images"))
	run, spec := "st.other."+other.ID.Key()+".run", "st.other."+other.ID.Key()+".spec"
	record, err := json.Marshal(other.Record)
	if err != nil {
		t.Fatal(err)
	}
	last, err := json.Marshal(map[string]any{"multi_last": []string{run, spec}, "batch": 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, subject string
		body          []byte
	}{
		{"read its record", "POOL.API.DIRECT.GET.STATE." + run, nil},
		{"read its spec", "POOL.API.DIRECT.GET.STATE." + spec, nil},
		{"read many", "POOL.API.DIRECT.GET.STATE", last},
		{"read by sequence", "POOL.API.STREAM.MSG.GET.STATE", []byte(`{"seq":1}`)},
		{"follow", "POOL.API.CONSUMER.CREATE.STATE", []byte(`{"stream_name":"STATE","config":{"ack_policy":"none"}}`)},
		{"list", "POOL.API.STREAM.INFO.STATE", []byte(`{"subjects_filter":">"}`)},
		{"read many, past the prefix", "$JS.API.DIRECT.GET.STATE", last},
		{"pull", "POOL.API.CONSUMER.MSG.NEXT.WORK." + bulk(class("other")).Consumer(), []byte(`{"batch":1}`)},
		{"ack", "$JS.ACK.WORK." + bulk(class("other")).Consumer() + ".1.1.1.0.0", []byte("+TERM")},
		{"write its record", run, record},
		{"write its spec", spec, []byte("{}")},
		{"write its history", "ev.other." + other.ID.Key(), []byte("{}")},
		{"write a spec of its own kind", "st.image." + mine.ID.Key() + ".spec", []byte("{}")},
		{"admit", bulk(class("image")).Subject(mine.ID), nil},
		{"purge", "POOL.API.STREAM.PURGE.STATE", nil},
		{"announce another's worker", "$KV.nodes.others.w1", []byte("{}")},
		{"announce without its name", "$KV.nodes.w1", []byte("{}")},
		{"lead", "$KV.schedulers.leader", []byte("me")},
		{"explain", "pool.explain", []byte(other.ID)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, err := nc.Request(tc.subject, tc.body, time.Second)
			if err == nil && m.Header.Get("Status") != "503" && !notEnabled(m.Data) {
				t.Errorf("answered: %v %q", m.Header, m.Data)
			}
		})
	}
	if diff := cmp.Diff(written(t, p.Client), before); diff != "" {
		t.Errorf("written -after +before:\n%s", diff)
	}
	if _, err := nc.Request("POOL.API.DIRECT.GET.STATE.st.image."+mine.ID.Key()+".spec", nil, patience); err != nil {
		t.Errorf("a job of its own kind: %v", err)
	}
}

// notEnabled is what an account says that holds no streams.
func notEnabled(b []byte) bool {
	var e struct {
		Error struct {
			Code int `json:"err_code"`
		} `json:"error"`
	}
	return json.Unmarshal(b, &e) == nil && e.Error.Code == int(jetstream.JSErrCodeJetStreamNotEnabledForAccount)
}

// What a worker may write under its own subjects takes nothing away from others.
func TestHeadersAreNoWayOut(t *testing.T) {
	p := newPool(t)
	if err := p.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	mine, other := p.submit(p.Client, imageArgs{}), p.submit(p.Client, otherArgs{})
	node := queue.Node{Name: "others.w1", Started: time.Now()}
	listed := func() bool {
		nodes, err := p.Workers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(nodes, func(n queue.Node) bool { return n.Name == node.Name })
	}
	nc := p.raw(auth.WorkerKey("images"))
	run, history := "st.image."+mine.ID.Key()+".run", "ev.image."+mine.ID.Key()
	for _, tc := range []struct {
		name, subject string
		header        nats.Header
	}{
		{name: "roll up the records", subject: run, header: nats.Header{"Nats-Rollup": {"all"}}},
		{name: "roll up the histories", subject: history, header: nats.Header{"Nats-Rollup": {"all"}}},
		{name: "a timetable", subject: history, header: nats.Header{"Nats-Schedule": {"@every 1s"}, "Nats-Schedule-Target": {"ev.other.x"}}},
		{name: "purge its name", subject: "$KV.nodes.images.w1", header: nats.Header{"KV-Operation": {"PURGE"}, "Nats-Rollup": {"sub"}}},
		{name: "roll up the workers", subject: "$KV.nodes.images.w1", header: nats.Header{"Nats-Rollup": {"all"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := p.Announce(t.Context(), node); err != nil {
				t.Fatal(err)
			}
			m := nats.NewMsg(tc.subject)
			m.Header = tc.header
			answer, err := nc.RequestMsg(m, patience)
			if err != nil {
				t.Fatal(err)
			}
			if !listed() {
				t.Errorf("another's worker is not listed; answer %s", answer.Data)
			}
			if !strings.Contains(string(answer.Data), `"error"`) {
				t.Errorf("answered %s", answer.Data)
			}
			if st, err := p.Get(t.Context(), other.ID); err != nil || st.Revision != other.Revision {
				t.Errorf("another's job: %+v, %v; answer %s", st.Record, err, answer.Data)
			}
		})
	}
}
