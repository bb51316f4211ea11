package queue_test

import (
	"strings"
	"testing"

	"github.com/lithify/lithify/queue"
)

// Whatever is wrong with the URL, its password is not in the error; the host is.
func TestErrorsHoldNoPassword(t *testing.T) {
	const host = "127.0.0.1:1"
	for _, u := range []string{
		"nats://bob:hunter2@" + host,
		"nats://hunter2@" + host,
		"bob:hunter2@" + host,
		"nats://bob:hun@ter2@" + host,
		"nats://bob:hun/ter2@" + host,
		"bob:hun://ter2@" + host,
		"nats://bob:hunter2%zz@" + host,
		"nats://bob:hun,ter2@" + host,
		"nats://bob:hun,x,ter2@" + host,
		"nats://bob:hun\nter2@" + host,
		"nats://bob:hunter2@" + host + ",nats://eve:hunter2@" + host,
		host + ",bob:hunter2@" + host,
	} {
		c, err := queue.Connect(t.Context(), queue.Config{URL: u})
		if err == nil {
			c.Close()
			t.Errorf("%q: connected", u)
			continue
		}
		if s := err.Error(); strings.Contains(s, "hun") || strings.Contains(s, "ter2") || !strings.Contains(s, host) {
			t.Errorf("%q: %q, want the host without the password", u, s)
		}
	}
}
