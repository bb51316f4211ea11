package page

import (
	"bytes"
	"context"
	"fmt"
	"html"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// view is a page of which a region is sent again as it changes.
type view struct {
	name, title, section string // of its template, in the window, in the menu
	// open looks at what is asked for, and gives what reads it: once for a page that is
	// shown, again and again for one that is followed.
	open func(r *http.Request, v Viewer) (reader, error)
	// every is how often there may be something new that the index does not know; 0: the page
	// is not followed.
	every time.Duration
}

// reader gives the data of a region.
type reader func(ctx context.Context) (any, error)

const (
	// maxStreams are open at a time.
	maxStreams = 256
	// lookEvery is how often a stream asks whether anything has changed: people see it
	// within a second.
	lookEvery = 300 * time.Millisecond
	// ageEvery is the step in which ages are shown.
	ageEvery = 10 * time.Second
	// rest is how much longer a stream rests than its last look took, so that one who looks
	// at something large leaves room for the others.
	rest = 4
	// keepAlive is how often a stream proves to proxies that it lives, and sendTimeout is for
	// who does not read.
	keepAlive   = 15 * time.Second
	sendTimeout = 45 * time.Second
)

// streams reports whether a request is for what changes of a page, and not for the page.
func streams(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/event-stream")
}

// show is what serves a view.
func (p *Page) show(v view) seenBy {
	return func(w http.ResponseWriter, r *http.Request, who Viewer) error {
		read, err := v.open(r, who)
		if err != nil {
			return err
		}
		if v.every > 0 && streams(r) {
			return p.follow(w, r, v, read)
		}
		data, err := read(r.Context())
		if err != nil {
			return err
		}
		f := frame{Title: v.title, Section: v.section, Viewer: &who, Data: data}
		if v.every > 0 {
			f.Live = r.URL.RequestURI()
		}
		if named, ok := data.(interface{ Title() string }); ok {
			f.Title = named.Title()
		}
		p.render(w, http.StatusOK, v.name, f)
		return nil
	}
}

// follow sends a region now and whenever it has changed, until the browser leaves.
func (p *Page) follow(w http.ResponseWriter, r *http.Request, v view, read reader) error {
	out, leave, err := p.stream(w)
	if err != nil {
		return err
	}
	defer leave()
	var sent []byte
	var trouble bool
	for {
		begin, version := time.Now(), p.index.Version()
		if _, err := p.viewer(r); errdefs.IsUnauthorized(err) {
			return nil // the session has ended: the browser learns it when it asks again
		}
		b, err := p.look(r.Context(), v, read)
		switch {
		case r.Context().Err() != nil:
			return nil
		case err != nil && !trouble:
			trouble, err = true, out.send("trouble", "", []byte(html.EscapeString(err.Error())))
		case err != nil:
			err = nil
		case trouble || !bytes.Equal(b, sent):
			if trouble, sent = false, b; out.send("fine", "", []byte("ok")) != nil {
				return nil
			}
			err = out.send("", "", b)
		}
		if err != nil || !p.pause(r.Context(), out, v, begin, version) {
			return nil // whoever asked is gone
		}
	}
}

func (p *Page) look(ctx context.Context, v view, read reader) ([]byte, error) {
	data, err := read(ctx)
	if err != nil {
		return nil, err
	}
	return region(v.name, data)
}

// pause waits until there may be something new; false: the stream is over.
func (p *Page) pause(ctx context.Context, out *sender, v view, begin time.Time, version uint64) bool {
	wait := max(lookEvery, rest*time.Since(begin))
	for {
		select {
		case <-ctx.Done():
			return false
		case <-p.ending:
			return false
		case <-time.After(wait):
		}
		if out.alive() != nil {
			return false
		}
		if p.index.Version() != version || time.Since(begin) >= v.every {
			return true
		}
		wait = lookEvery
	}
}

// stream begins an answer of server-sent events.
func (p *Page) stream(w http.ResponseWriter) (out *sender, leave func(), err error) {
	select {
	case p.open <- struct{}{}:
	default:
		return nil, nil, fmt.Errorf("%d pages are followed, and no more can be: %w", maxStreams, errdefs.ErrResourceExhausted)
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep events back
	return &sender{w: w, ctl: http.NewResponseController(w), last: time.Now()}, func() { <-p.open }, nil
}

// sender writes server-sent events
// (https://html.spec.whatwg.org/multipage/server-sent-events.html).
type sender struct {
	w    io.Writer
	ctl  *http.ResponseController
	last time.Time
}

// lines ends a line as a stream of events may have it: a data field holds none.
var lines = strings.NewReplacer("\r\n", "\ndata: ", "\r", "\ndata: ", "\n", "\ndata: ")

// send writes an event of a type, none for HTML that takes the place of a region.
func (s *sender) send(event, id string, data []byte) error {
	var b strings.Builder
	if event != "" {
		fmt.Fprintf(&b, "event: %s\n", event)
	}
	if id != "" {
		fmt.Fprintf(&b, "id: %s\n", id)
	}
	fmt.Fprintf(&b, "data: %s\n\n", lines.Replace(string(data)))
	return s.write(b.String())
}

// alive writes something if nothing was written for a while.
func (s *sender) alive() error {
	if time.Since(s.last) < keepAlive {
		return nil
	}
	return s.write(":\n\n")
}

func (s *sender) write(text string) error {
	s.last = time.Now()
	_ = s.ctl.SetWriteDeadline(s.last.Add(sendTimeout)) // where a connection knows none, there is none
	if _, err := io.WriteString(s.w, text); err != nil {
		return err
	}
	return s.ctl.Flush()
}

// followLog sends what a job prints, behind the piece that is shown already, until it has ended.
func (p *Page) followLog(w http.ResponseWriter, r *http.Request, v Viewer) error {
	st, err := p.statusOf(r.Context(), v, jobs.ID(r.PathValue("id")))
	if err != nil {
		return err
	}
	after, err := number(r, "after")
	if err != nil {
		return err
	}
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		if after, err = parseNumber("Last-Event-ID", last); err != nil {
			return err
		}
	}
	out, leave, err := p.stream(w)
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithCancel(r.Context())
	parts := make(chan queue.LogPart)
	var g sync.WaitGroup
	defer g.Wait()
	defer cancel()
	g.Go(func() { p.readLog(ctx, st.ID, after, parts) })
	show := printer(st.Job.Kind)
	for err = out.write(":\n\n"); err == nil; {
		select {
		case part, more := <-parts:
			if !more {
				return p.endLog(ctx, out)
			}
			err = out.send("", fmt.Sprint(part.Seq), logSpan(show(part)))
		case <-time.After(keepAlive):
			if _, err := p.viewer(r); errdefs.IsUnauthorized(err) {
				return nil
			}
			err = out.alive()
		case <-p.ending:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
	return nil // whoever asked is gone
}

// endLog has the browser not ask again.
func (p *Page) endLog(ctx context.Context, out *sender) error {
	if err := out.send("end", "", []byte("end")); err != nil && ctx.Err() == nil {
		p.log.Debug("log not ended", "error", err)
	}
	return nil
}

// readLog closes parts when the job has ended, or nothing more can be read.
func (p *Page) readLog(ctx context.Context, id jobs.ID, after uint64, parts chan<- queue.LogPart) {
	defer close(parts)
	for part, err := range p.client.ReadLog(ctx, id, after) {
		if err != nil {
			p.log.Debug("log interrupted", "id", id, "error", err)
			return
		}
		select {
		case parts <- part:
		case <-ctx.Done():
			return
		}
	}
}
