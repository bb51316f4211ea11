//go:build linux

package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

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
