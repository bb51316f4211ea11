//go:build linux

package e2e_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/test/corpus"
)

// TestAuthInit runs what `lithify auth init` makes as separate processes: TLS, a NATS
// account per worker, signed admissions and results. A job through it ends done; with
// the key of a worker nobody submits.
func TestAuthInit(t *testing.T) {
	registry := startRegistry(t)
	src := registry + "/guarded:tar"
	push(t, probeImage(t, "application/vnd.oci.image.layer.v1.tar+gzip", corpus.Linked), src)
	p := &pool{home: t.TempDir()}
	dir := filepath.Join(p.home, "auth")
	at := func(name string) string { return filepath.Join(dir, name) }
	p.output(t, "auth", "init", dir, "--host", "127.0.0.1", "--store", filepath.Join(p.home, "store"), "--worker", "images=convert,layer")

	if out, err := command(t, need(t, "nats-server"), "-t", "-c", at("nats.conf")).CombinedOutput(); err != nil {
		t.Fatalf("nats-server -t: %v\n%s", err, out)
	}
	conf, err := os.ReadFile(at("nats.conf"))
	if err != nil {
		t.Fatal(err)
	}
	free := strings.Replace(string(conf), `"127.0.0.1:4222"`, `"127.0.0.1:-1"`, 1)
	if free == string(conf) {
		t.Fatalf("where does it listen?\n%s", conf)
	}
	if err := os.WriteFile(at("nats.conf"), []byte(free), 0o600); err != nil {
		t.Fatal(err)
	}
	url := "tls://" + natsServer(t, at("nats.conf")).address(t)
	as := func(key string, args ...string) []string {
		return append(args, "--nats", url, "--tls-ca", at("ca.pem"), "--nkey", at(key), "--pool-keys", at("keys.json"))
	}
	start(t, p.command(t, program(t, "lithify-scheduler", "../../cmd/scheduler"), as("scheduler.nk")...))
	start(t, p.command(t, program(t, "lithify-worker", "../../cmd/worker"), as("worker-images.nk", "--temp-dir", t.TempDir(), "--ledger-key", at("ledger.pem"))...))
	got := p.output(t, as("client.nk", "submit", "convert", "--wait", "--insecure", src, registry+"/guarded:pool")...)
	if want := convert(t, src, registry+"/guarded:here"); digestOf(got) != digestOf(want) {
		t.Errorf("the pool made %s, this process %s", got, want)
	}
	for _, st := range p.layers(t, as("client.nk")...) {
		if st.Signature == "" {
			t.Errorf("layer job %s has a result that nobody signed", st.ID)
		}
	}

	cmd := p.command(t, lithify(t), as("worker-images.nk", "submit", "convert", "--insecure", src, registry+"/guarded:stolen")...)
	if out, err := cmd.CombinedOutput(); err == nil || cmd.ProcessState.ExitCode() != 4 {
		t.Errorf("submitted with a worker's key: %v\n%s", err, out)
	}
}

// authCluster is a cluster as `lithify auth init` makes it, on three addresses of this
// machine.
type authCluster struct {
	t       *testing.T
	dir     string
	hosts   []string
	clients []string // where the servers listen, by host,
	routes  []string // for each other, too
	servers []*process
}

func initCluster(t *testing.T, p *pool) *authCluster {
	t.Helper()
	a := &authCluster{t: t, dir: filepath.Join(t.TempDir(), "auth"), hosts: []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"}}
	p.output(t, "auth", "init", a.dir, "--cluster", strings.Join(a.hosts, ","), "--store", "/store", "--worker", "images=convert,layer")
	for _, h := range a.hosts {
		a.clients, a.routes = append(a.clients, freeAddr(t, h)), append(a.routes, freeAddr(t, h))
	}
	return a
}

func (a *authCluster) at(name string) string { return filepath.Join(a.dir, name) }

// urls are where the servers are for clients.
func (a *authCluster) urls() string { return "tls://" + strings.Join(a.clients, ",tls://") }

// serve runs the ith server with its configuration, but for ports and store: there,
// each has a machine of its own.
func (a *authCluster) serve(i int) *process {
	a.t.Helper()
	conf := a.at("nats-" + a.hosts[i] + ".conf")
	if out, err := command(a.t, need(a.t, "nats-server"), "-t", "-c", conf).CombinedOutput(); err != nil {
		a.t.Fatalf("nats-server -t: %v\n%s", err, out)
	}
	moved := []string{`"0.0.0.0:4222"`, `"` + a.clients[i] + `"`, `"0.0.0.0:6222"`, `"` + a.routes[i] + `"`, `"/store"`, `"` + a.t.TempDir() + `"`}
	for j, h := range a.hosts {
		moved = append(moved, "@"+h+":6222", "@"+a.routes[j])
	}
	text, err := os.ReadFile(conf)
	if err != nil {
		a.t.Fatal(err)
	}
	for j := 0; j < len(moved); j += 2 {
		if !strings.Contains(string(text), moved[j]) {
			a.t.Fatalf("no %s in\n%s", moved[j], text)
		}
	}
	path := filepath.Join(a.t.TempDir(), "nats.conf")
	if err := os.WriteFile(path, []byte(strings.NewReplacer(moved...).Replace(string(text))), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return natsServer(a.t, path)
}

// TestAuthInitCluster runs the three servers whose configurations `lithify auth init`
// writes, and a pool on them that outlives the loss of one. A fourth that knows the
// password of their routes, but has a certificate of somebody else, is not let in.
func TestAuthInitCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	registry := startRegistry(t)
	src := registry + "/guarded:tar"
	push(t, probeImage(t, "application/vnd.oci.image.layer.v1.tar+gzip", corpus.Linked), src)
	p := &pool{home: t.TempDir()}
	a := initCluster(t, p)
	for i := range a.hosts {
		a.servers = append(a.servers, a.serve(i))
	}
	for _, s := range a.servers {
		s.address(t)
	}
	as := func(key string, args ...string) []string {
		return append(args, "--nats", a.urls(), "--tls-ca", a.at("ca.pem"), "--nkey", a.at(key), "--pool-keys", a.at("keys.json"))
	}
	start(t, p.command(t, program(t, "lithify-scheduler", "../../cmd/scheduler"), as("scheduler.nk", "--replicas", "3")...))
	start(t, p.command(t, program(t, "lithify-worker", "../../cmd/worker"), as("worker-images.nk", "--temp-dir", t.TempDir(), "--ledger-key", a.at("ledger.pem"))...))
	client, err := queue.Connect(t.Context(), queue.Config{URL: a.urls(), TLSCA: a.at("ca.pem"), NkeyFile: a.at("scheduler.nk"), Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	c := &cluster{t: t, Client: client}
	c.leader("")
	c.whole()
	want := digestOf(convert(t, src, registry+"/guarded:here"))
	submit := func(tag string) {
		t.Helper()
		got := p.output(t, as("client.nk", "submit", "convert", "--wait", "--insecure", src, registry+"/guarded:"+tag)...)
		if digestOf(got) != want {
			t.Errorf("the pool made %s, this process %s", got, want)
		}
	}
	submit("three")
	a.intrude(p)
	c.kill(a.servers[1])
	submit("two")
}

var rejected = regexp.MustCompile(`TLS route handshake error: .*certificate signed by unknown authority`)

// intrude has a server of another pool try to join, which has all but a certificate of
// this one.
func (a *authCluster) intrude(p *pool) {
	a.t.Helper()
	other := initCluster(a.t, p)
	password := regexp.MustCompile(`route:([A-Z0-9]+)@`)
	ours, err := os.ReadFile(a.at("nats-127.0.0.1.conf"))
	if err != nil {
		a.t.Fatal(err)
	}
	conf := other.at("nats-127.0.0.1.conf")
	theirs, err := os.ReadFile(conf)
	if err != nil {
		a.t.Fatal(err)
	}
	stolen := strings.NewReplacer(password.FindStringSubmatch(string(theirs))[1], password.FindStringSubmatch(string(ours))[1], other.at("ca.pem"), a.at("ca.pem"))
	if err := os.WriteFile(conf, []byte(stolen.Replace(string(theirs))), 0o600); err != nil {
		a.t.Fatal(err)
	}
	other.routes[1], other.routes[2] = a.routes[1], a.routes[2] // whom it calls
	intruder := other.serve(0)
	defer intruder.Process.Kill()
	for _, s := range a.servers[1:] {
		await(a.t, "refusal", func(context.Context) error {
			if !rejected.MatchString(s.said()) {
				return errors.New("none, for its certificate")
			}
			return nil
		})
	}
}

// freeAddr is an address of a host of this machine that nobody listens on.
func freeAddr(t *testing.T, host string) string {
	t.Helper()
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
