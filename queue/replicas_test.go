package queue_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/lithify/lithify/queue"
)

// cluster starts three servers and gives the address of one.
func cluster(t *testing.T) string {
	t.Helper()
	var ports []net.Listener
	var routes []*url.URL
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports, routes = append(ports, l), append(routes, &url.URL{Scheme: "nats", Host: l.Addr().String()})
	}
	var first *server.Server
	for i, r := range routes {
		port, err := strconv.Atoi(r.Port())
		if err = errors.Join(err, ports[i].Close()); err != nil {
			t.Fatal(err)
		}
		s, err := server.NewServer(&server.Options{ServerName: fmt.Sprint("n", i), JetStream: true, StoreDir: t.TempDir(), Host: "127.0.0.1", Port: server.RANDOM_PORT,
			NoSigs: true, NoLog: true, Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: port}, Routes: routes})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(s.WaitForShutdown)
		t.Cleanup(s.Shutdown)
		if first == nil {
			first = s
		}
	}
	return first.ClientURL()
}

// An export makes the schedulers' list of a cluster, if it is gone, as safe as the
// cluster's scheduler makes it.
func TestExportOfACluster(t *testing.T) {
	if testing.Short() {
		t.Skip("no cluster is started: it takes seconds")
	}
	c, err := queue.Connect(t.Context(), queue.Config{URL: cluster(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := c.Setup(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	const list = "KV_schedulers"
	if err := c.JetStream().DeleteStream(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Export(t.Context(), io.Discard, queue.Transfer{}); err != nil {
		t.Fatal(err)
	}
	s, err := c.JetStream().Stream(t.Context(), list)
	if err != nil {
		t.Fatal(err)
	}
	if n := s.CachedInfo().Config.Replicas; n != 3 {
		t.Errorf("the list has %d replicas", n)
	}
}
