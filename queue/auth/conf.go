package auth

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/lithify/lithify/queue"
)

// routes are the connections between the servers of a cluster.
type routes struct{ self, password string }

const (
	// Port is where clients connect.
	Port      = "4222"
	routePort = "6222"
)

// config is the configuration of one server.
func (c Config) config(cert certificate, u users, r *routes) string {
	b := &conf{}
	b.line("# Made by lithify auth init: a server of a pool whose workers have accounts of")
	b.line("# their own. Check it with nats-server -t, run it with nats-server -c.")
	name := "lithify"
	if r != nil {
		name = r.self
	}
	b.line("server_name: %s", quoted(name))
	b.line("listen: %s", quoted(net.JoinHostPort(c.address(), Port)))
	b.line("")
	b.block("jetstream", func() {
		b.line("store_dir: %s", quoted(c.Store))
		b.line("max_file_store: 20GB")
		b.line("# An acknowledged write is on the disk. A claim or result that a power cut")
		b.line("# takes back would let two workers own a job: do not relax this.")
		b.line("sync_interval: always")
	})
	b.line("# The largest job and result are smaller; bytes of images never pass through.")
	b.line("max_payload: 256KB")
	b.line("max_connections: 4096")
	b.line("max_subscriptions: 20000 # of one connection")
	b.line("max_control_line: 4KB")
	b.line("")
	b.block("tls", func() { b.tls(cert) })
	if r != nil {
		b.block("cluster", func() { c.cluster(b, cert, r) })
	}
	b.block("accounts", func() { c.accounts(b, u) })
	return b.String()
}

// address is where the server listens: on this machine only if it has no other name.
func (c Config) address() string {
	if len(c.Hosts) == 0 {
		return "0.0.0.0"
	}
	for _, h := range c.Hosts {
		if ip := net.ParseIP(h); h != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return "0.0.0.0"
		}
	}
	return "127.0.0.1"
}

func (c Config) cluster(b *conf, cert certificate, r *routes) {
	b.line("name: lithify")
	b.line("listen: %s", quoted(net.JoinHostPort("0.0.0.0", routePort)))
	b.line("authorization { user: route, password: %s, timeout: 5 }", quoted(r.password))
	b.line("routes: [")
	for _, h := range c.Cluster {
		b.line("  %s", quoted("nats-route://route:"+r.password+"@"+net.JoinHostPort(h, routePort)))
	}
	b.line("]")
	b.block("tls", func() {
		b.tls(cert)
		b.line("verify: true")
	})
}

func (b *conf) tls(c certificate) {
	b.line("cert_file: %s", quoted(c.cert))
	b.line("key_file: %s", quoted(c.key))
	b.line("ca_file: %s", quoted(c.ca))
	b.line("timeout: 5")
}

// notForClients keeps those who submit from what only the scheduler does. It saves
// from mistakes: within an account permissions are no boundary, for a reply subject
// goes where its sender may not publish.
var notForClients = []string{
	"w.>", "$KV.nodes.>", "$KV.schedulers.>", "$JS.ACK.WORK.>",
	"$JS.API.CONSUMER.*.WORK.>", "$JS.API.CONSUMER.MSG.NEXT.WORK.>", "$JS.API.CONSUMER.CREATE.WORK", "$JS.API.CONSUMER.DURABLE.CREATE.>",
	"$JS.API.STREAM.CREATE.>", "$JS.API.STREAM.UPDATE.>", "$JS.API.STREAM.DELETE.>", "$JS.API.STREAM.RESTORE.>",
	"$JS.API.STREAM.PURGE.WORK", "$JS.API.STREAM.PURGE.STATE", "$JS.API.STREAM.MSG.DELETE.>",
}

// accounts are CORE, which holds the streams, and one for each worker. What a worker
// may do is what its account imports.
func (c Config) accounts(b *conf, u users) {
	access := map[string][]queue.Import{}
	for _, w := range c.Workers {
		access[w.Name] = queue.Access(w.Name, w.Classes, w.Submits)
	}
	b.block("CORE", func() {
		b.line("jetstream: enabled")
		b.line("users: [")
		b.line("  { nkey: %s } # the scheduler", u.scheduler)
		b.line("  { nkey: %s, permissions: { publish: { deny: [ # those who submit", u.client)
		for _, s := range notForClients {
			b.line("      %s", quoted(s))
		}
		b.line("  ] } } }")
		b.line("]")
		b.line("exports: [")
		c.exports(b, access)
		b.line("]")
	})
	for i, w := range c.Workers {
		b.block(quoted(account(w.Name)), func() {
			b.line("users: [ { nkey: %s } ]", u.workers[i])
			b.line("imports: [")
			for _, m := range access[w.Name] {
				to := ""
				if m.Local != m.Subject {
					to = ", to: " + quoted(m.Local)
				}
				b.line("  { %s: { account: CORE, subject: %s }%s }", way(m), quoted(m.Subject), to)
			}
			b.line("]")
		})
	}
}

// exports names each subject once, with the accounts that import it.
func (c Config) exports(b *conf, access map[string][]queue.Import) {
	lines := map[string][]string{}
	for _, w := range c.Workers {
		for _, m := range access[w.Name] {
			line := way(m) + ": " + quoted(m.Subject)
			if m.Many {
				line += ", response_type: stream"
			}
			lines[line] = append(lines[line], quoted(account(w.Name)))
		}
	}
	for _, line := range slices.Sorted(maps.Keys(lines)) {
		b.line("  { %s, accounts: [%s] }", line, strings.Join(lines[line], ", "))
	}
}

// account is the NATS account of a worker.
func account(worker string) string { return "WORKER-" + worker }

func way(m queue.Import) string {
	if m.Stream {
		return "stream"
	}
	return "service"
}

func quoted(s string) string { return strconv.Quote(s) }

// conf is the text of a configuration.
type conf struct {
	strings.Builder
	depth int
}

func (b *conf) line(format string, args ...any) {
	if format != "" {
		b.WriteString(strings.Repeat("  ", b.depth))
	}
	fmt.Fprintf(b, format+"\n", args...)
}

func (b *conf) block(name string, inside func()) {
	b.line("%s {", name)
	b.depth++
	inside()
	b.depth--
	b.line("}")
}
