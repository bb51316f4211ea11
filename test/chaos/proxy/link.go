package proxy

import (
	"bufio"
	"net"
	"sync"
	"time"
)

// link is one connection through a proxy.
type link struct {
	p              *Proxy
	client, server net.Conn
	once           sync.Once
	done           chan struct{}
}

func (l *link) close() {
	l.once.Do(func() {
		close(l.done)
		l.client.Close()
		l.server.Close()
	})
}

// parcel is a frame on its way.
type parcel struct {
	raw  []byte
	read time.Time
	sent func()
}

// inFlight bounds the frames on their way in one direction; more wait in the
// sockets, as in a real network.
const inFlight = 1024

// run carries bytes until either end closes, or Cut.
func (l *link) run() {
	var wait sync.WaitGroup
	for _, way := range []struct {
		from, to net.Conn
		valve    *valve
	}{{l.client, l.server, &l.p.up}, {l.server, l.client, &l.p.down}} {
		frames := make(chan parcel, inFlight)
		wait.Go(func() { defer l.close(); defer close(frames); l.read(way.from, frames) })
		wait.Go(func() { defer l.close(); l.write(way.to, way.valve, frames) })
	}
	wait.Wait()
}

func (l *link) read(from net.Conn, out chan<- parcel) {
	r := bufio.NewReaderSize(from, maxLine)
	for {
		f, err := readFrame(r)
		if err != nil {
			return
		}
		p := parcel{raw: f.raw, read: time.Now()}
		if tap := l.p.tap.Load(); tap != nil && f.message != nil {
			drop, sent := (*tap)(*f.message)
			if drop {
				continue
			}
			p.sent = sent
		}
		select {
		case out <- p:
		case <-l.done:
			return
		}
	}
}

func (l *link) write(to net.Conn, v *valve, in <-chan parcel) {
	for p := range in {
		if !l.wait(p) || !v.pass(l.done) {
			return
		}
		if _, err := to.Write(p.raw); err != nil {
			return
		}
		if p.sent != nil {
			p.sent()
		}
	}
}

// wait lets a parcel take its time; false if the link ends first.
func (l *link) wait(p parcel) bool {
	d := time.Until(p.read.Add(time.Duration(l.p.delay.Load())))
	if d <= 0 {
		return true
	}
	select {
	case <-time.After(d):
		return true
	case <-l.done:
		return false
	}
}
