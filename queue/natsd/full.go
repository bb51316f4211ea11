package natsd

import (
	"context"
	"errors"
	"net"
	"os"
	"time"
)

const (
	// room is what must be there again: a few blocks of the server's streams.
	room = 16 << 20
	// roomEvery is the pause between two looks at a full disk.
	roomEvery = 5 * time.Second
)

// refill has the server begin anew when a full disk has room again, until ctx is done:
// once a write had none, nats-server 2.15.2 stores nothing more in its stream, ever. Its
// clients wait meanwhile, and connect again.
func (s *Server) refill(ctx context.Context) {
	for {
		select {
		case <-s.full:
		case <-ctx.Done():
			return
		}
		s.cfg.Log.Error("disk full: jobs are refused and results wait for room", "dir", s.cfg.Dir)
		for err := errors.New("not tried"); err != nil; {
			select {
			case <-time.After(roomEvery):
			case <-ctx.Done():
				return
			}
			if err = hasRoom(s.cfg.Dir); err == nil {
				err = s.restart()
			}
			s.cfg.Log.Debug("queue server restarted", "dir", s.cfg.Dir, "error", err)
		}
		s.cfg.Log.Info("disk has room again: the queue goes on", "dir", s.cfg.Dir)
	}
}

// hasRoom tries it: what the file system says is free may be another's.
func hasRoom(dir string) error {
	f, err := os.CreateTemp(dir, "room-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(make([]byte, room))
	return errors.Join(err, f.Sync(), f.Close())
}

// restart ends the server and starts it on the same port.
func (s *Server) restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
	select {
	case <-s.full: // it said so until its end
	default:
	}
	return s.start()
}

// InProcessConn is how this process reaches the server, whichever runs now.
func (s *Server) InProcessConn() (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ns.InProcessConn()
}
