package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

const (
	// groupMessages and groupBytes bound an atomic batch: the server takes 1000
	// messages, and no more than 10 s from the first to the last.
	groupMessages = 500
	groupBytes    = 4 << 20
	// groupFew is up to how many single messages are quicker one by one: a batch
	// costs a few syncs more than they do, whatever its size.
	groupFew = 12
	// headerRoom is what the headers of a batch add to a message.
	headerRoom = 256
)

// group writes to one stream. What is given to it while a write is under way goes
// out together in one atomic batch: under load a sync is shared by hundreds, and
// one that comes alone waits for nobody.
//
// Each message keeps its own expectation of its subject's last sequence. If the
// server refuses a batch it has written none of it; the halves are tried again, so
// that exactly those fail which conflict.
type group struct {
	js jetstream.JetStream

	mu        sync.Mutex
	pending   []*write
	busy      bool
	interrupt context.CancelCauseFunc // ends the wait of the write under way
	running   sync.WaitGroup
}

// write is what one caller wants written: messages that only go together.
type write struct {
	msgs []*nats.Msg
	done chan struct{}
	left bool // under group.mu: its caller does not wait any more

	seq uint64 // of the last message
	err error
}

// do writes messages in one step and gives the sequence of the last one. It is
// bounded by apiTimeout. After an error that is no refusal of the server the outcome
// is unknown.
func (g *group) do(ctx context.Context, msgs ...*nats.Msg) (uint64, error) {
	for _, m := range msgs {
		if size, limit := int64(m.Size()+headerRoom), g.js.Conn().MaxPayload(); size > limit {
			return 0, fmt.Errorf("message (%d bytes, at most %d): %w", size, limit, nats.ErrMaxPayload)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	w := g.add(msgs)
	select {
	case <-w.done:
		return w.seq, w.err
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		w.left = true
		return 0, ctx.Err()
	}
}

func (g *group) add(msgs []*nats.Msg) *write {
	w := &write{msgs: msgs, done: make(chan struct{})}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pending = append(g.pending, w)
	if !g.busy {
		g.busy = true
		g.running.Go(g.run)
	}
	return w
}

// run writes until nothing is pending.
func (g *group) run() {
	for {
		ws, ctx, done := g.next()
		if len(ws) == 0 {
			return
		}
		g.write(ctx, ws)
		done()
	}
}

// next takes what goes out together, and how long it may take: no two writes of
// one subject, for the second must know the sequence of the first.
func (g *group) next() ([]*write, context.Context, func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var ws, rest []*write
	count, size, subjects := 0, 0, map[string]bool{}
	for _, w := range g.pending {
		bytes, taken := 0, false
		for _, m := range w.msgs {
			bytes += m.Size()
			taken = taken || subjects[m.Subject]
		}
		switch {
		case w.left:
			continue
		case taken || len(ws) > 0 && (count+len(w.msgs) > groupMessages || size+bytes > groupBytes):
			rest = append(rest, w)
			continue
		}
		for _, m := range w.msgs {
			subjects[m.Subject] = true
		}
		ws, count, size = append(ws, w), count+len(w.msgs), size+bytes
	}
	g.pending = rest
	if len(ws) == 0 {
		g.busy = false
		return nil, nil, nil
	}
	ctx, interrupt := context.WithCancelCause(context.Background()) // its callers' contexts end their own waits
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	g.interrupt = interrupt
	return ws, ctx, func() { cancel(); interrupt(nil) }
}

// lost is called when the connection is: the answer to what was sent will not come.
func (g *group) lost() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.interrupt != nil {
		g.interrupt(nats.ErrDisconnected)
	}
}

// write writes ws, alone or together, and tells the callers.
func (g *group) write(ctx context.Context, ws []*write) {
	switch {
	case few(ws):
		var all sync.WaitGroup
		for _, w := range ws {
			all.Go(func() { g.single(ctx, w) })
		}
		all.Wait()
		return
	case g.batch(ctx, ws):
		return
	}
	g.write(ctx, ws[:len(ws)/2])
	g.write(ctx, ws[len(ws)/2:])
}

func few(ws []*write) bool {
	for _, w := range ws {
		if len(w.msgs) > 1 {
			return false
		}
	}
	return len(ws) <= groupFew
}

func (g *group) single(ctx context.Context, w *write) {
	ack, err := g.js.PublishMsg(ctx, unbatched(w.msgs[0]))
	if err != nil {
		w.end(0, cause(ctx, err))
		return
	}
	w.end(ack.Sequence, nil)
}

// batch writes ws in one atomic batch. It is false, and nobody is told, if the
// server refused it and there are halves to try.
func (g *group) batch(ctx context.Context, ws []*write) bool {
	var msgs []*nats.Msg
	for _, w := range ws {
		msgs = append(msgs, w.msgs...)
	}
	ack, err := jetstreamext.PublishMsgBatch(ctx, g.js, msgs, jetstreamext.BatchFlowControl{AckTimeout: apiTimeout})
	if len(ws) > 1 && (apiCode(err) != 0 || errors.Is(err, nats.ErrNoResponders)) {
		return false
	}
	seq := uint64(0)
	if err == nil {
		seq = ack.Sequence - uint64(len(msgs)) // those of a batch are contiguous
	}
	for _, w := range ws {
		seq += uint64(len(w.msgs))
		w.end(seq, cause(ctx, err))
	}
	return true
}

// end tells the caller. The sequence means nothing with an error.
func (w *write) end(seq uint64, err error) {
	w.seq, w.err = seq, err
	close(w.done)
}

// unbatched is m without what an earlier batch added to it.
func unbatched(m *nats.Msg) *nats.Msg {
	for _, h := range []string{jetstreamext.BatchIDHeader, jetstreamext.BatchSeqHeader, jetstreamext.BatchCommitHeader} {
		m.Header.Del(h)
	}
	m.Reply = ""
	return m
}

// cause is why ctx was cancelled, where that is what err says.
func cause(ctx context.Context, err error) error {
	if errors.Is(err, context.Canceled) {
		return context.Cause(ctx)
	}
	return err
}
