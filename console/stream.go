package console

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/jobs"
)

const (
	// keepAlive is how often a stream proves to proxies that it lives.
	keepAlive = 15 * time.Second
	// maxStreams are open at a time: each is two readers of the pool.
	maxStreams = 512
	// endEvent is the type of the last event of a stream. Its data is an Error if the
	// stream ends too early; a stream without it was interrupted.
	endEvent = "end"
)

// stream sends what read gives as server-sent events
// (https://html.spec.whatwg.org/multipage/server-sent-events.html), each with its number
// as the ID, and an endEvent.
func stream[T any](s *Server, w http.ResponseWriter, r *http.Request, read func(context.Context) iter.Seq2[T, error], number func(T) uint64) error {
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		return fmt.Errorf("%d streams are open: %w", maxStreams, errdefs.ErrResourceExhausted)
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	ctx, cancel := context.WithCancel(r.Context())
	var reader sync.WaitGroup
	defer reader.Wait()
	defer cancel()
	items := make(chan item[T])
	reader.Go(func() {
		defer close(items)
		for v, err := range read(ctx) {
			select {
			case items <- item[T]{v, err}:
			case <-ctx.Done():
				return
			}
		}
	})
	out, alive := http.NewResponseController(w), time.NewTicker(keepAlive)
	defer alive.Stop()
	for last := false; !last; {
		var err error
		_ = out.SetWriteDeadline(time.Now().Add(keepAlive + bodyTimeout)) // who does not read goes
		select {
		case i, more := <-items:
			if last = !more || i.err != nil; last {
				err = sendEnd(w, i.err)
			} else {
				err = send(w, "", number(i.v), i.v)
			}
		case <-alive.C:
			_, err = io.WriteString(w, ":\n\n")
		case <-s.ending:
			return nil
		case <-ctx.Done():
			return nil
		}
		if err == nil {
			err = out.Flush()
		}
		if err != nil { // whoever asked is gone
			s.log.Debug("stream ended", "error", err)
			return nil
		}
	}
	return nil
}

type item[T any] struct {
	v   T
	err error
}

func sendEnd(w io.Writer, err error) error {
	if err == nil {
		return send(w, endEvent, 0, struct{}{})
	}
	return send(w, endEvent, 0, Error{err.Error(), jobs.KindOf(err)})
}

func send(w io.Writer, kind string, number uint64, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var head bytes.Buffer
	if kind != "" {
		fmt.Fprintf(&head, "event: %s\n", kind)
	}
	if number > 0 {
		fmt.Fprintf(&head, "id: %d\n", number)
	}
	_, err = fmt.Fprintf(w, "%sdata: %s\n\n", head.Bytes(), b)
	return err
}
