package wine_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/test/wine"
)

// A worker is installed as a service of Windows, has its place in a pool, stops and is uninstalled. Wine's
// services neither restart nor pass on a shutdown, and they all have the same account.
func testService(t *testing.T, p *wine.Prefix) {
	exe := p.Program(t, "worker", worker)
	server, client, _ := startQueue(t)
	service := func(args ...string) string {
		return output(t, p.Command(t.Context(), exe, nil, append([]string{"service"}, args...)...))
	}
	service("install", "--name", "as-service", "--slots", "1", "--nats", server.URL(), "--nkey", wine.Path(server.Client().NkeyFile))
	service("start")
	worksAs(t, client, "as-service")
	said := service("status")
	if !strings.Contains(said, "running") {
		t.Errorf("status: %s", said)
	}
	service("stop")
	if said := service("status"); !strings.Contains(said, "stopped") {
		t.Errorf("status: %s", said)
	}
	_, log, _ := strings.Cut(said, "log\t")
	log, _, _ = strings.Cut(log, "\n")
	if text := output(t, p.Command(t.Context(), "cmd", nil, "/c", "type", log)); !strings.Contains(text, "host checked") {
		t.Errorf("%s: %s", log, text)
	}
	service("uninstall")
	if out, err := p.Command(t.Context(), exe, nil, "service", "status").CombinedOutput(); err == nil {
		t.Errorf("uninstalled: %s", out)
	}
}

// worksAs waits until a worker has its place in the pool.
func worksAs(t *testing.T, client *queue.Client, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for tick := time.NewTicker(100 * time.Millisecond); ; {
		all, err := client.Workers(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(all, func(n queue.Node) bool { return n.Name == name }) {
			return
		}
		<-tick.C
	}
}
