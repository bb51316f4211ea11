//go:build linux

package e2e_test

import (
	"fmt"
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
	config := filepath.Join(t.TempDir(), "worker.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "version: 1\nnats: %s\nnkey: %s\ntemp-dir: none\n", url, seed), 0o600); err != nil {
		t.Fatal(err)
	}
	worker := p.command(t, program(t, "lithify-worker", "../../cmd/worker"), "--config", config)
	worker.Env = append(worker.Env, "LITHIFY_WORKER_TEMP_DIR="+t.TempDir())
	start(t, worker)
	got := p.output(t, append([]string{"submit", "convert", "--wait", "--insecure", src, registry + "/separate:pool"}, flags...)...)
	if want := convert(t, src, registry+"/separate:here"); digestOf(got) != digestOf(want) {
		t.Errorf("the pool made %s, this process %s", got, want)
	}
}

var forClients = regexp.MustCompile(`Listening for client connections on (\d+\.\d+\.\d+\.\d+:\d+)`)

// startNATS runs the server with deploy/nats/single.conf, but for port and store,
// and returns its URL and the file with the seed it accepts.
func startNATS(t *testing.T) (url, seed string) {
	t.Helper()
	public, seed := poolKey(t)
	config := natsConfig(t, "single.conf", []string{"LITHIFY_NKEY=" + public}, "127.0.0.1:4222", "127.0.0.1:-1", "/var/lib/nats", t.TempDir())
	return "nats://" + natsServer(t, config, "LITHIFY_NKEY="+public).address(t), seed
}

// poolKey makes the key of a pool: its public half, and the file with the seed.
func poolKey(t *testing.T) (public, seed string) {
	t.Helper()
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	if public, err = key.PublicKey(); err != nil {
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
	return public, seed
}

// natsConfig has the server check a file of deploy/nats as it is, and writes it with
// the addresses and directories of this test.
func natsConfig(t *testing.T, name string, env []string, replace ...string) (path string) {
	t.Helper()
	path = filepath.Join("../../deploy/nats", name)
	check := command(t, need(t, "nats-server"), "-t", "-c", path)
	check.Env = append(check.Env, env...)
	if out, err := check.CombinedOutput(); err != nil {
		t.Fatalf("nats-server -t: %v\n%s", err, out)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	moved := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(moved, []byte(strings.NewReplacer(replace...).Replace(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	return moved
}

func natsServer(t *testing.T, config string, env ...string) *process {
	t.Helper()
	cmd := command(t, need(t, "nats-server"), "-c", config)
	cmd.Env = append(cmd.Env, env...)
	return start(t, cmd)
}

// address is where clients reach a server that has just been started.
func (p *process) address(t *testing.T) string {
	t.Helper()
	return p.says(t, "address", func(line string) (string, bool) {
		m := forClients.FindStringSubmatch(line)
		if m == nil {
			return "", false
		}
		return m[1], true
	})
}
