package worker

import (
	"context"
	"errors"
	"time"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

const (
	// claimTries: a second look settles nearly every lost race.
	claimTries = 3
	// claimAgain is the pause after a claim whose outcome is not known.
	claimAgain = 250 * time.Millisecond
	claimRetry = time.Second
	// doubtFor ack waits, five minutes, a silence is not believed that would end the
	// job: outages of the network are rarely longer.
	doubtFor = 10
	// claimLater is for a job that only another version can read.
	claimLater = time.Minute
)

// handle deals with one message from its delivery to its ack.
func (w *Worker) handle(work, writes context.Context, d delivery) {
	defer release([]chan<- struct{}{d.slot})
	st, ok := w.claim(writes, d)
	if !ok {
		return
	}
	defer w.holds(st)()
	a := &attempt{w: w, d: d, st: st, log: w.log.With("id", st.ID, "kind", st.Class.Kind, "attempt", st.Attempt)}
	a.run(work, writes)
}

// claim makes the job of a message ours, or finds that there is nothing to do.
func (w *Worker) claim(ctx context.Context, d delivery) (queue.Status, bool) {
	_, id, err := queue.ParseWork(d.Subject())
	if err != nil {
		w.log.Error("message is no job", "error", err)
		w.ignore(d.TermWithReason(err.Error()))
		return queue.Status{}, false
	}
	now, unclear := time.Now().UTC(), false // a claim of ours may have been written
	giveUp := now.Add(d.ackWait / 2)        // then it is another's turn
	for tries := 0; tries < claimTries && time.Now().Before(giveUp); {
		// A replica that does not know of the admission would have it claimed as it
		// was before, or acked as what had ended then.
		st, err := w.client.GetAt(ctx, id, queue.AdmittedBy(d.Headers()))
		if err == nil && st.State == jobs.Running && st.Worker == w.cfg.Name && unclear && st.Updated.Equal(now) {
			return st, true
		}
		if err != nil {
			w.unread(d, id, err)
			return st, false
		}
		if w.moot(d, st) {
			return st, false
		}
		back, err := w.back(ctx, st.Record)
		if err != nil { // in an account of its own a worker may not ask
			w.log.Warn("silent workers not looked up", "id", id, "error", err)
		}
		e := jobs.Claim{Worker: w.cfg.Name, Message: d.sequence, Current: queue.AdmittedBy(d.Headers()) == st.Revision, Back: back, Doubt: doubtFor * d.ackWait, At: now}
		st, err = w.client.Apply(ctx, st, e)
		switch _, edge := errors.AsType[*jobs.EdgeError](err); {
		case edge: // the job runs by another message, or has ended meanwhile
			w.ignore(d.TermWithReason(err.Error()))
			return st, false
		case err == nil && st.State == jobs.Running:
			return st, true
		case err == nil && st.State == jobs.Retry:
			w.log.Warn("job put off", "id", id, "until", st.NotBefore, "error", st.Failure.Message)
			w.ignore(d.TermWithReason(st.Failure.Message))
			return st, false
		case err == nil:
			w.log.Warn("job ended unclaimed", "id", id, "state", st.State, "error", st.Failure.Message)
			w.ignore(d.TermWithReason(st.Failure.Message))
			return st, false
		case errdefs.IsConflict(err):
			tries++
		default: // look whether it was written: left alone, it would count as a silent worker's
			w.log.Warn("claim unclear", "id", id, "error", err)
			unclear = true
			select {
			case <-time.After(claimAgain):
			case <-ctx.Done():
				return st, false
			}
		}
	}
	w.log.Debug("claim lost to another worker", "id", id)
	return queue.Status{}, false
}

// unread puts the message of a job back that could not be read.
func (w *Worker) unread(d delivery, id jobs.ID, err error) {
	if errors.Is(err, queue.ErrUnreadable) {
		w.log.Error("job left alone", "id", id, "error", err)
		w.ignore(d.NakWithDelay(claimLater))
		return
	}
	w.log.Warn("job not read", "id", id, "error", err)
	w.ignore(d.NakWithDelay(claimRetry))
}

// moot reports whether a job's message is no reason to claim it now, and answers it.
func (w *Worker) moot(d delivery, st queue.Status) bool {
	if err := w.client.CheckAdmission(d.Subject(), d.Headers(), st); err != nil {
		w.log.Error("message refused", "id", st.ID, "error", err)
		w.ignore(d.TermWithReason(err.Error()))
		return true
	}
	wait := time.Until(st.NotBefore)
	switch {
	case st.State.Ended():
		w.ignore(d.Ack())
	case st.State == jobs.Waiting && queue.AdmittedBy(d.Headers()) <= st.Revision: // its worker died before the ack
		w.ignore(d.Ack())
	case st.State == jobs.Waiting: // a replica lags
		w.ignore(d.NakWithDelay(claimLater))
	case st.State == jobs.Retry && wait > 0: // left by a crash between the record and the ack
		w.ignore(d.NakWithDelay(wait))
	case w.keeps(st) && d.admits(st):
		w.ignore(d.InProgress())
	case st.State == jobs.Running && w.justBack(d):
		w.ignore(d.NakWithDelay(d.ackWait / 2))
	default:
		return false
	}
	return true
}

// ignore is for answers to the server that are repaired when they get lost: the
// message comes again, and its record says what to do.
func (w *Worker) ignore(err error) {
	if err != nil {
		w.log.Debug("message not answered", "error", err)
	}
}
