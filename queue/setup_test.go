package queue_test

import (
	"bytes"
	"net"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/lithify/lithify/queue"
)

// misled is a connection on which the first request under a subject goes to another
// one, of the same length, at which nobody answers: as a leader that dies does not.
type misled struct {
	net.Conn
	subject, to []byte
	once        atomic.Bool
}

func (c *misled) Write(p []byte) (int, error) {
	if bytes.Contains(p, c.subject) && !c.once.Swap(true) {
		p = bytes.Replace(p, c.subject, c.to, 1)
	}
	return c.Conn.Write(p)
}

func (c *misled) Dial(network, address string) (conn net.Conn, err error) {
	c.Conn, err = net.Dial(network, address)
	return c, err
}

// A server that dies in the middle of a set-up leaves a request unanswered: the next
// one is asked.
func TestSetupIsAskedAgain(t *testing.T) {
	const lost = "lost.of.a.leader.that.dies.a"
	p := newPool(t)
	conn := &misled{subject: []byte("$JS.API.STREAM.CREATE.EVENTS "), to: []byte(lost + " ")}
	asked := p.spy(lost)
	c, err := queue.Connect(t.Context(), queue.Config{ContextFile: p.cfg.ContextFile, Options: []nats.Option{nats.SetCustomDialer(conn)}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	await(t, asked, "lost request")
}
