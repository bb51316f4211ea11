package proxy_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lithify/lithify/queue/natsd"
	"github.com/lithify/lithify/test/chaos/proxy"
)

// start is a server, a proxy before it and a client behind that.
func start(t *testing.T) (*proxy.Proxy, *nats.Conn) {
	t.Helper()
	s, err := natsd.Start(natsd.Config{Dir: t.TempDir(), ContextFile: "-"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() })
	p, err := proxy.New(s.URL()[len("nats://"):])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	key, err := nats.NkeyOptionFromSeed(s.Client().NkeyFile)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(p.URL(), key, nats.ReconnectWait(time.Millisecond), nats.MaxReconnects(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if _, err := nc.Subscribe("echo", func(m *nats.Msg) { m.Respond(m.Data) }); err != nil {
		t.Fatal(err)
	}
	return p, nc
}

const (
	patience = 20 * time.Second
	soon     = 100 * time.Millisecond
)

func ask(nc *nats.Conn, wait time.Duration) error {
	m := nats.NewMsg("echo")
	m.Header.Set("a", "b")
	m.Data = []byte("x\r\ny")
	got, err := nc.RequestMsg(m, wait)
	if err == nil && string(got.Data) != string(m.Data) {
		return errors.New("echo is " + string(got.Data))
	}
	return err
}

func TestPasses(t *testing.T) {
	p, nc := start(t)
	var up, down atomic.Int32
	p.Watch(func(m proxy.Message) (bool, func()) {
		if m.Up {
			up.Add(1)
		} else {
			down.Add(1)
		}
		return false, nil
	})
	if err := ask(nc, patience); err != nil {
		t.Fatal(err)
	}
	if up.Load() != 2 || down.Load() != 2 { // the question and the answer, each there and back
		t.Errorf("saw %d up and %d down, want 2 and 2", up.Load(), down.Load())
	}
}

func TestBlocksEitherWay(t *testing.T) {
	for name, way := range map[string][2]bool{"up": {true, false}, "down": {false, true}, "both": {true, true}} {
		t.Run(name, func(t *testing.T) {
			p, nc := start(t)
			if err := ask(nc, patience); err != nil {
				t.Fatal(err)
			}
			p.Block(way[0], way[1])
			if err := ask(nc, soon); !errors.Is(err, nats.ErrTimeout) {
				t.Errorf("through a blocked proxy: %v", err)
			}
			p.Heal()
			if err := ask(nc, patience); err != nil {
				t.Errorf("after it healed: %v", err)
			}
		})
	}
}

func TestCut(t *testing.T) {
	p, nc := start(t)
	if err := ask(nc, patience); err != nil {
		t.Fatal(err)
	}
	back := nc.StatusChanged(nats.CONNECTED)
	p.Cut()
	select {
	case <-back:
	case <-time.After(patience):
		t.Fatal("not connected again")
	}
	if err := ask(nc, patience); err != nil {
		t.Error(err)
	}
}

func TestDelay(t *testing.T) {
	p, nc := start(t)
	p.Delay(soon)
	began := time.Now()
	if err := ask(nc, patience); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d < 4*soon { // there and back, twice
		t.Errorf("took %v", d)
	}
}

// The one answer that a test chooses is lost, and the test is told when the
// question was sent.
func TestLosesOneAnswer(t *testing.T) {
	p, nc := start(t)
	sent := make(chan string, 1)
	p.Watch(func(m proxy.Message) (bool, func()) {
		if m.Up && m.Subject == "echo" {
			return false, func() { sent <- m.Reply }
		}
		return !m.Up && m.Subject != "echo", nil
	})
	if err := ask(nc, soon); !errors.Is(err, nats.ErrTimeout) {
		t.Errorf("got %v, want no answer", err)
	}
	if reply := <-sent; reply == "" {
		t.Error("no reply subject seen")
	}
	p.Watch(nil)
	if err := ask(nc, patience); err != nil {
		t.Error(err)
	}
}
