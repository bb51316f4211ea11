package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
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
	// groupNew is the same for jobs that are new: spec and record are two such writes.
	groupNew = 2
	// groupApart messages are written within one callTimeout, each with a sync.
	groupApart = 100
	// headerRoom is what the headers of a batch add to a message.
	headerRoom = 256
)

// newGroup has a JetStream context of its own: what others publish without waiting
// takes up no room that its writes need.
func newGroup(nc *nats.Conn, last lastFunc) (*group, error) {
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(apiTimeout))
	return &group{js: js, last: last}, err
}

// lastFunc reads the last message of each subject that has one.
type lastFunc func(ctx context.Context, subjects ...string) (map[string]*jetstream.RawStreamMsg, error)

// group writes to one stream. What is given to it while a write is under way goes
// out together in one atomic batch: under load a sync is shared by hundreds, and
// one that comes alone waits for nobody.
//
// Each message keeps its own expectation of its subject's last sequence. If the
// server refuses a batch it has written none of it. It does not say which message is
// to blame: one look at their subjects tells, and the others go out again. Those that are
// still refused are tried apart, so that exactly those fail which conflict.
type group struct {
	js    jetstream.JetStream
	last  lastFunc // nil: nothing expects a sequence
	blind bool     // in an account of its own: it may not ask about the stream

	mu        sync.Mutex
	pending   []*write
	replicas  int // of the stream; 0: not known
	busy      bool
	interrupt context.CancelCauseFunc // ends the wait of the write under way
	running   sync.WaitGroup
}

// write is what one caller wants written: messages that only go together.
type write struct {
	msgs  []*nats.Msg
	first bool // its subjects have no message yet, and msgs may be written in turn
	done  chan struct{}

	once sync.Once
	seq  uint64 // of the last message
	err  error
}

// do writes messages in one step and gives the sequence of the last one. It is
// bounded by apiTimeout. After an error that is no refusal of the server the outcome
// is unknown.
func (g *group) do(ctx context.Context, msgs ...*nats.Msg) (uint64, error) {
	return g.wrote(ctx, &write{msgs: msgs, done: make(chan struct{})})
}

// doFirst is do for messages to subjects that have none yet. If these are alone they are
// written in turn, which is quicker than a batch. A crash may leave the first without the
// others: it is nobody's, and who comes next replaces it by a batch.
func (g *group) doFirst(ctx context.Context, msgs ...*nats.Msg) (uint64, error) {
	return g.wrote(ctx, &write{msgs: msgs, first: true, done: make(chan struct{})})
}

func (g *group) wrote(ctx context.Context, w *write) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	g.add(w)
	g.wait(ctx, w)
	return w.seq, w.err
}

// each writes messages, each on its own, and tells how it went with each.
func (g *group) each(ctx context.Context, msgs []*nats.Msg) []error {
	return g.all(ctx, slices.Collect(slices.Chunk(msgs, 1)))
}

// all writes sets of messages, each set in one step, and tells how it went with each.
func (g *group) all(ctx context.Context, sets [][]*nats.Msg) []error {
	ws, errs := writes(sets), make([]error, len(sets))
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	g.add(ws...)
	for i, w := range ws {
		g.wait(ctx, w)
		errs[i] = w.err
	}
	return errs
}

// apart writes messages to a stream that takes no batches, in order, and tells how it
// went with each.
func (g *group) apart(ctx context.Context, msgs []*nats.Msg) []error {
	var errs []error
	for part := range slices.Chunk(msgs, groupApart) {
		ws := writes(slices.Collect(slices.Chunk(part, 1)))
		g.singles(ctx, ws)
		for _, w := range ws {
			errs = append(errs, w.err)
		}
	}
	return errs
}

func writes(sets [][]*nats.Msg) []*write {
	ws := make([]*write, len(sets))
	for i, msgs := range sets {
		ws[i] = &write{msgs: msgs, done: make(chan struct{})}
	}
	return ws
}

func (g *group) add(ws ...*write) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range ws {
		if err := g.fits(w); err != nil {
			w.end(0, err)
			continue
		}
		g.pending = append(g.pending, w)
	}
	if len(g.pending) > 0 && !g.busy {
		g.busy = true
		g.running.Go(g.run)
	}
}

func (g *group) fits(w *write) error {
	for _, m := range w.msgs {
		if size, limit := int64(m.Size()+headerRoom), g.js.Conn().MaxPayload(); size > limit {
			return fmt.Errorf("message (%d bytes, at most %d): %w", size, limit, nats.ErrMaxPayload)
		}
	}
	return nil
}

// wait waits for w, or ends it with ctx: what is not under way then is not written.
func (g *group) wait(ctx context.Context, w *write) {
	select {
	case <-w.done:
	case <-ctx.Done():
		w.end(0, ctx.Err())
	}
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
		case w.ended():
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

// lost is called when the connection is: the answer to what was sent will not come, and
// the stream may be another when the server is back.
func (g *group) lost() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.replicas = 0
	if g.interrupt != nil {
		g.interrupt(nats.ErrDisconnected)
	}
}

// write writes ws and tells the callers: together if that is quicker.
func (g *group) write(ctx context.Context, ws []*write) {
	ones, pairs := split(ws)
	if len(ones) > groupFew || !g.few(ctx, pairs) {
		g.together(ctx, ws)
		return
	}
	g.singles(ctx, ones)
	if refused := g.inTurn(ctx, pairs); len(refused) > 0 {
		g.together(ctx, g.weed(ctx, refused)) // a job that exists costs no batch
	}
}

// together writes ws in a batch. If the server refuses that, single messages go one by
// one; of pairs, each of which is a batch of its own, the halves are tried again.
func (g *group) together(ctx context.Context, ws []*write) {
	if len(ws) == 0 || g.batch(ctx, ws) {
		return
	}
	if rest := g.weed(ctx, ws); len(rest) < len(ws) {
		g.write(ctx, rest)
		return
	}
	ones, pairs := split(ws)
	g.singles(ctx, ones)
	for half := range slices.Chunk(pairs, max((len(pairs)+1)/2, 1)) {
		g.write(ctx, half)
	}
}

// weed ends the writes that expect what is no longer so, and gives the others. A stream
// that cannot be read, or a replica that lags, leaves more than there should be.
func (g *group) weed(ctx context.Context, ws []*write) (rest []*write) {
	if g.last == nil {
		return ws
	}
	var subjects []string
	for _, w := range ws {
		for _, m := range w.msgs {
			if m.Header.Get(jetstream.ExpectedLastSubjSeqHeader) != "" {
				subjects = append(subjects, m.Subject)
			}
		}
	}
	last, err := g.last(ctx, subjects...)
	if err != nil {
		return ws
	}
	for _, w := range ws {
		if err := w.conflict(last); err != nil {
			w.end(0, err)
		} else {
			rest = append(rest, w)
		}
	}
	return rest
}

// conflict is what the server would say to w alone.
func (w *write) conflict(last map[string]*jetstream.RawStreamMsg) error {
	for _, m := range w.msgs {
		want, err := strconv.ParseUint(m.Header.Get(jetstream.ExpectedLastSubjSeqHeader), 10, 64)
		if is := last[m.Subject]; err == nil && is != nil && is.Sequence > want {
			return &jetstream.APIError{Code: 400, ErrorCode: codeWrongSequence, Description: fmt.Sprintf("wrong last sequence: %d", is.Sequence)}
		}
	}
	return nil
}

func split(ws []*write) (ones, pairs []*write) {
	for _, w := range ws {
		if len(w.msgs) > 1 {
			pairs = append(pairs, w)
		} else {
			ones = append(ones, w)
		}
	}
	return ones, pairs
}

// few reports whether pairs are quicker in turn. A batch costs six syncs of the disk,
// most of them for files that hold it until it is complete, and a pair in turn costs two.
// Replicas hold a batch in memory, but agree on each write.
func (g *group) few(ctx context.Context, pairs []*write) bool {
	if len(pairs) == 0 {
		return true
	}
	return len(pairs) <= groupNew && !slices.ContainsFunc(pairs, func(w *write) bool { return !w.first }) && g.single(ctx)
}

// single reports whether STATE, to which alone pairs are written, has no replicas.
func (g *group) single(ctx context.Context) bool {
	g.mu.Lock()
	n := g.replicas
	g.mu.Unlock()
	if n > 0 || g.blind {
		return n == 1
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s, err := g.js.Stream(ctx, streamState)
	if err != nil {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.replicas = s.CachedInfo().Config.Replicas
	return g.replicas == 1
}

// inTurn writes the messages of each of ws one after the other, and gives those back that
// the server refused.
func (g *group) inTurn(ctx context.Context, ws []*write) (refused []*write) {
	told := make([]bool, len(ws))
	var all sync.WaitGroup
	for i, w := range ws {
		all.Go(func() { told[i] = g.turn(ctx, w) })
	}
	all.Wait()
	for i, w := range ws {
		if !told[i] {
			refused = append(refused, w)
		}
	}
	return refused
}

// turn writes each message on the condition that it is the first of its subject. It is
// false, and nobody is told, if the server refused one. There is one at a time who is
// between two messages: all others are refused at the first, and their batches are as good
// as one write.
func (g *group) turn(ctx context.Context, w *write) bool {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	seq := uint64(0)
	for _, m := range w.msgs {
		first := &nats.Msg{Subject: m.Subject, Data: m.Data, Header: nats.Header{jetstream.ExpectedLastSubjSeqHeader: {"0"}}}
		ack, err := g.js.PublishMsg(ctx, first)
		if apiCode(err) != 0 {
			return false
		}
		if err != nil {
			w.end(0, cause(ctx, err))
			return true
		}
		seq = ack.Sequence
	}
	w.end(seq, nil)
	return true
}

// singles writes ws one after the other, in order, and waits for them together.
func (g *group) singles(ctx context.Context, ws []*write) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	acks := make([]jetstream.PubAckFuture, len(ws))
	for i, w := range ws {
		var err error
		if acks[i], err = g.js.PublishMsgAsync(unbatched(w.msgs[0])); err != nil {
			w.end(0, err)
		}
	}
	for i, w := range ws {
		if acks[i] == nil {
			continue
		}
		select {
		case ack := <-acks[i].Ok():
			w.end(ack.Sequence, nil)
		case err := <-acks[i].Err():
			w.end(0, err)
		case <-ctx.Done():
			w.end(0, context.Cause(ctx))
		}
	}
}

// batch writes ws in one atomic batch. It is false, and nobody is told, if the
// server refused it and they can be tried apart.
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

// end tells the caller, once. The sequence means nothing with an error.
func (w *write) end(seq uint64, err error) {
	w.once.Do(func() {
		w.seq, w.err = seq, err
		close(w.done)
	})
}

// ended reports whether the caller waits no more.
func (w *write) ended() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
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
