// Package proxy stands between a NATS client and its server and is a bad network
// for them: slow, cut, or deaf in one direction. It reads the protocol as it
// passes, so that a test can stop at any one message, or lose the answer to it.
package proxy

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Tap sees each message before it goes on; while it does not return, nothing
// behind the message goes on either. One that says drop is lost. If sent is not
// nil it is called when the message is on its way.
type Tap func(m Message) (drop bool, sent func())

// Proxy listens on a loopback port for one client and its reconnections.
type Proxy struct {
	server   string // host:port
	listener net.Listener
	delay    atomic.Int64 // nanoseconds, each way
	up, down valve
	tap      atomic.Pointer[Tap]
	wait     sync.WaitGroup

	mu     sync.Mutex
	links  map[*link]struct{}
	closed bool
}

// New starts a proxy before the server at host:port.
func New(server string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{server: server, listener: l, links: map[*link]struct{}{}}
	p.wait.Go(p.accept)
	return p, nil
}

// URL is what the client connects to.
func (p *Proxy) URL() string { return "nats://" + p.listener.Addr().String() }

// Watch has t see every message, instead of the tap before; nil has none see them.
func (p *Proxy) Watch(t Tap) {
	if t == nil {
		p.tap.Store(nil)
		return
	}
	p.tap.Store(&t)
}

// Delay makes every byte arrive that much later, from now on.
func (p *Proxy) Delay(d time.Duration) { p.delay.Store(int64(d)) }

// Block lets nothing pass in the directions that are true, until Heal. Nothing is
// lost: connections stay, and what was sent arrives when they heal.
func (p *Proxy) Block(up, down bool) {
	if up {
		p.up.close()
	}
	if down {
		p.down.close()
	}
}

// Heal ends what Block and Delay began.
func (p *Proxy) Heal() {
	p.Delay(0)
	p.up.open()
	p.down.open()
}

// Cut closes every connection, and with it what is on its way. The client may
// connect again.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.close()
	}
}

// Close ends the proxy and its connections.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.listener.Close()
	p.Cut()
	p.wait.Wait()
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wait.Go(func() { p.serve(c) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	server, err := net.DialTimeout("tcp", p.server, dialWait)
	if err != nil {
		client.Close()
		return
	}
	l := &link{p: p, client: client, server: server, done: make(chan struct{})}
	p.mu.Lock()
	if p.closed {
		l.close()
	}
	p.links[l] = struct{}{}
	p.mu.Unlock()
	l.run()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

const dialWait = time.Second
