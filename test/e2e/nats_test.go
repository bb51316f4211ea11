//go:build linux

package e2e_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/lithify/lithify/test/corpus"
	"github.com/nats-io/nkeys"
)

// TestSeparateProcesses runs the pool as deploy/ describes it: NATS, scheduler and
// worker as processes of their own, and a job through them.
func TestSeparateProcesses(t *testing.T) {
	registry := startRegistry(t)
	src := registry + "/separate:tar"
	push(t, probeImage(t, "application/vnd.oci.image.layer.v1.tar+gzip", corpus.Linked), src)
	url, seed := startNATS(t)
	p := &pool{home: t.TempDir()}
	flags := []string{"--nats", url, "--nkey", seed}
	start(t, p.command(t, program(t, "lithify-scheduler", "../../cmd/scheduler"), flags...))
	start(t, p.command(t, program(t, "lithify-worker", "../../cmd/worker"), append(flags, "--temp-dir", t.TempDir())...))
	got := p.output(t, append([]string{"submit", "convert", "--wait", "--insecure", src, registry + "/separate:pool"}, flags...)...)
	if want := convert(t, src, registry+"/separate:here"); digestOf(got) != digestOf(want) {
		t.Errorf("the pool made %s, this process %s", got, want)
	}
}

var forClients = regexp.MustCompile(`Listening for client connections on (127\.0\.0\.1:\d+)`)

// startNATS runs the server with deploy/nats/single.conf, but for port and store,
// and returns its URL and the file with the seed it accepts.
func startNATS(t *testing.T) (url, seed string) {
	t.Helper()
	const config = "../../deploy/nats/single.conf"
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	secret, err := key.Seed()
	if err != nil {
		t.Fatal(err)
	}
	seed = filepath.Join(t.TempDir(), "nkey")
	if err := os.WriteFile(seed, secret, 0o600); err != nil {
		t.Fatal(err)
	}
	server := need(t, "nats-server")
	check := command(t, server, "-t", "-c", config)
	check.Env = append(check.Env, "LITHIFY_NKEY="+public)
	if out, err := check.CombinedOutput(); err != nil {
		t.Fatalf("nats-server -t: %v\n%s", err, out)
	}
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	here := strings.NewReplacer("127.0.0.1:4222", "127.0.0.1:-1", "/var/lib/nats", t.TempDir()).Replace(string(text))
	moved := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(moved, []byte(here), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := command(t, server, "-c", moved)
	cmd.Env = append(cmd.Env, "LITHIFY_NKEY="+public)
	return "nats://" + start(t, cmd).says(t, "address", func(line string) (string, bool) {
		m := forClients.FindStringSubmatch(line)
		if m == nil {
			return "", false
		}
		return m[1], true
	}), seed
}
