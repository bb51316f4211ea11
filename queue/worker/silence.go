package worker

import (
	"context"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// back are the workers that fell silent with a job and were heard of since, without
// it, or ended in good order: whatever kept them from the queue, it was not the job. A
// process that began after its namesake had claimed the job is another one. With an
// error it is this worker at most.
func (w *Worker) back(ctx context.Context, r jobs.Record) ([]string, error) {
	if r.State != jobs.Running && !r.Doubted() || len(r.Silent) == 0 {
		return nil, nil
	}
	var names []string
	for _, s := range r.Silent {
		names = append(names, s.Worker)
	}
	nodes, err := w.client.Named(ctx, names...)
	if err != nil {
		nodes = map[string]queue.Node{}
	}
	// Of itself it knows more than it has announced: that it is here, without the job.
	nodes[w.cfg.Name] = queue.Node{Started: w.started, Updated: time.Now(), Running: w.snapshot()}
	return slices.DeleteFunc(names, func(name string) bool {
		n, here := nodes[name]
		return !here || slices.ContainsFunc(r.Silent, func(s jobs.Silence) bool { return s.Worker == name && !n.Survived(s, r.ID) })
	}), err
}

// watchConnection notes when the connection was restored, until ctx is done.
func (w *Worker) watchConnection(ctx context.Context) {
	conn := w.client.JetStream().Conn()
	back := conn.StatusChanged(nats.CONNECTED)
	defer conn.RemoveStatusListener(back)
	for {
		select {
		case <-back:
			w.restored.Store(time.Now().UnixNano())
		case <-ctx.Done():
			return
		}
	}
}

// justBack reports whether this worker was cut off until just now. The owner of a
// job may have been so too, by the same outage, and is about to be heard of: half the
// ack wait is a heartbeat or two.
func (w *Worker) justBack(d delivery) bool {
	return time.Since(time.Unix(0, w.restored.Load())) < d.ackWait/2
}

// keep notes that a job's claim is prolonged, until the returned function is called.
func (w *Worker) keep(st queue.Status) (leave func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kept[st.ID] = st.Revision
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.kept[st.ID] == st.Revision {
			delete(w.kept, st.ID)
		}
	}
}

// admits reports whether a running job was claimed from this message, or the message
// was sent for that claim: another one is a duplicate.
func (d delivery) admits(st queue.Status) bool {
	return d.sequence == st.Message || queue.AdmittedBy(d.Headers()) == st.Revision
}

// keeps reports whether this worker prolongs the claim st: that its message came
// again says only that the server was away.
func (w *Worker) keeps(st queue.Status) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return st.State == jobs.Running && w.kept[st.ID] == st.Revision
}
