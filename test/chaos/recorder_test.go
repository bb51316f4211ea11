//go:build linux

package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/test/chaos/history"
	"github.com/lithify/lithify/test/chaos/proxy"
)

// recorder keeps what happened, in memory and in a file.
type recorder struct {
	t    *testing.T
	mu   sync.Mutex
	run  history.Run
	live map[string]bool   // jobs that have not ended, as the observer saw them last
	seen map[string]uint64 // revision of what it saw last of each
	file *os.File
}

func newRecorder(t *testing.T, dir string) *recorder {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "history"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &recorder{t: t, file: f, live: map[string]bool{}, seen: map[string]uint64{}}
}

// note is called with the lock.
func (r *recorder) note(what string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(r.file, "%s %s %s\n", time.Now().Format("15:04:05.000"), what, b)
}

// remark is for whoever reads the file.
func (r *recorder) remark(what, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note(what, text)
}

func add[T any](r *recorder, what string, list *[]T, v T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*list = append(*list, v)
	r.note(what, v)
}

func (r *recorder) submission(s history.Submission) { add(r, "submitted", &r.run.Submissions, s) }
func (r *recorder) cancel(c history.Cancel)         { add(r, "cancelled", &r.run.Cancels, c) }
func (r *recorder) write(w history.Write)           { add(r, "write", &r.run.Writes, w) }
func (r *recorder) fault(f history.Fault)           { add(r, "fault", &r.run.Faults, f) }

func (r *recorder) version(v history.Version) {
	add(r, "version", &r.run.Versions, v)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[v.ID] = v.Revision
	if v.State.Ended() {
		delete(r.live, v.ID)
	} else {
		r.live[v.ID] = true
	}
}

// open is how many jobs have not ended, as far as the observer has seen.
func (r *recorder) open() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.live)
}

// unseen is how many of these the observer has not come to: of what it does not see it
// cannot complain.
func (r *recorder) unseen(final []history.Version) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range final {
		if r.seen[v.ID] < v.Revision {
			n++
		}
	}
	return n
}

// snapshot is what is known so far.
func (r *recorder) snapshot() history.Run {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.run
}

// observe follows STATE from outside, past every proxy.
func (w *world) observe() {
	c := w.connect("observer", "nats://"+w.addr)
	w.run(func(ctx context.Context) {
		for m, err := range c.Follow(ctx, queue.StreamState, everyRecord) {
			if err != nil {
				if ctx.Err() == nil {
					w.t.Errorf("the observer ended: %v", err)
				}
				return
			}
			v, err := decodeVersion(m)
			if err != nil {
				w.t.Errorf("observer: %v", err)
				continue
			}
			w.log.version(v)
		}
	})
}

var everyRecord = jetstream.OrderedConsumerConfig{FilterSubjects: []string{queue.RunFilter}, DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy}

func decodeVersion(m jetstream.Msg) (v history.Version, err error) {
	md, err := m.Metadata()
	if err == nil {
		err = json.Unmarshal(m.Data(), &v.Record)
	}
	if err != nil {
		return v, fmt.Errorf("%s: %w", m.Subject(), err)
	}
	v.Revision, v.Stored = md.Sequence.Stream, md.Timestamp
	return v, nil
}

// records are all that STATE holds now.
func (w *world) records(ctx context.Context) ([]history.Version, error) {
	// One that changes meanwhile comes twice: only a message with none behind it is
	// the last.
	all := map[string]history.Version{}
	for m, err := range w.direct.Follow(ctx, queue.StreamState, everyRecord) {
		if err != nil {
			return nil, err
		}
		md, err := m.Metadata()
		if err != nil {
			return nil, err
		}
		v, err := decodeVersion(m)
		if err != nil {
			return nil, err
		}
		if all[v.ID] = v; md.NumPending == 0 {
			break
		}
	}
	return slices.Collect(maps.Values(all)), ctx.Err()
}

// wire notes the records that a process sends, and has its node's tap see every
// message.
func (w *world) wire(name string, n *node) proxy.Tap {
	return func(m proxy.Message) (bool, func()) {
		if m.Up && strings.HasPrefix(m.Subject, "st.") && strings.HasSuffix(m.Subject, ".run") {
			var r history.Record
			if err := json.Unmarshal(m.Data, &r); err == nil {
				w.log.write(history.Write{At: time.Now(), By: name, Record: r})
			}
		}
		return n.tapped(m)
	}
}
