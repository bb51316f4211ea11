package natsd

import (
	"fmt"
	"log/slog"
)

// serverLog gives the server's lines to slog: its notices are a developer's. Its errors
// are the only word it gives of a write for which the disk had no room.
type serverLog struct {
	log  *slog.Logger
	full chan<- struct{}
}

func (l serverLog) Noticef(f string, v ...any) { l.log.Debug("nats", "line", fmt.Sprintf(f, v...)) }
func (l serverLog) Warnf(f string, v ...any)   { l.log.Warn("nats", "line", fmt.Sprintf(f, v...)) }
func (l serverLog) Fatalf(f string, v ...any)  { l.log.Error("nats", "line", fmt.Sprintf(f, v...)) }
func (l serverLog) Debugf(string, ...any)      {}
func (l serverLog) Tracef(string, ...any)      {}

func (l serverLog) Errorf(f string, v ...any) {
	l.log.Error("nats", "line", fmt.Sprintf(f, v...))
	for _, a := range v {
		if err, ok := a.(error); ok && isFull(err) {
			select {
			case l.full <- struct{}{}:
			default:
			}
		}
	}
}
