package main

import (
	"context"
	"net"
	"strings"
	"testing"
)

// A worker that is stopped while its queue does not answer has not failed, and one whose queue
// goes away has.
func TestStoppedBeforeItHasAQueue(t *testing.T) {
	for name, stopped := range map[string]bool{"stopped": true, "refused": false} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					if stopped {
						stop()
					}
					c.Close()
				}
			}()
			o, err := parse([]string{"--nats", "nats://" + l.Addr().String()})
			if err != nil {
				t.Fatal(err)
			}
			var log strings.Builder
			err = o.serve(ctx, &log)
			if stopped && err != nil {
				t.Errorf("stopped: %v", err)
			}
			if !stopped && err == nil {
				t.Error("no error, and no queue")
			}
			if got := strings.Contains(log.String(), "stopped before it took jobs"); got != stopped {
				t.Errorf("log: %s", log.String())
			}
			l.Close()
			<-ended
		})
	}
}
