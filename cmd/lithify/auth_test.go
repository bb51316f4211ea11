package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/auth"
	natsserver "github.com/nats-io/nats-server/v2/server"
)

func TestAuthInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "auth")
	code, stdout, stderr := lithify(t, "auth", "init", dir, "--worker", "linux", "--worker", "arm=convert/linux/arm64,layer")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	keys := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		secret := strings.HasPrefix(string(b), "SU") || strings.Contains(string(b), "PRIVATE KEY")
		if secret && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if keys[d.Name()] = secret; !strings.Contains(stdout, path) {
			t.Errorf("%s is not told of", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{auth.SchedulerKey, auth.ClientKey, auth.WorkerKey("linux"), auth.WorkerKey("arm"), ledgerKeyFile} {
		if !keys[name] {
			t.Errorf("%s is no key", name)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v, %v", info.Mode(), err)
	}
	if code, _, stderr := lithify(t, "auth", "init", dir); code != 1 || !strings.Contains(stderr, "not written over") {
		t.Errorf("again: exit code %d, %q", code, stderr)
	}
}

func TestAuthInitOfACluster(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "auth")
	hosts := []string{"n1.example.com", "n2.example.com", "n3.example.com"}
	code, stdout, stderr := lithify(t, "auth", "init", dir, "--cluster", strings.Join(hosts, ","))
	if code != 0 || !strings.Contains(stdout, "--replicas 3") {
		t.Fatalf("exit code %d: %s%s", code, stdout, stderr)
	}
	for _, h := range hosts {
		path := filepath.Join(dir, "nats-"+h+".conf")
		if _, err := natsserver.ProcessConfigFile(path); err != nil || !strings.Contains(stdout, path) {
			t.Errorf("%s: %v, among %s", path, err, stdout)
		}
	}
	if code, _, stderr := lithify(t, "auth", "init", filepath.Join(t.TempDir(), "auth"), "--cluster", "n1,n2"); code != 2 || !strings.Contains(stderr, "three") {
		t.Errorf("two servers: exit code %d, %q", code, stderr)
	}
}

// A worker's key is not one to submit with, and is told so.
func TestWorkerKeyAtTheCommandLine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "auth")
	if code, _, stderr := lithify(t, "auth", "init", dir, "--store", t.TempDir()); code != 0 {
		t.Fatal(stderr)
	}
	url := serveConfig(t, filepath.Join(dir, "nats.conf"))
	flags := func(key string) []string {
		return []string{"--nats", url, "--tls-ca", filepath.Join(dir, "ca.pem"), "--nkey", filepath.Join(dir, key)}
	}
	c, err := queue.Connect(t.Context(), queue.Config{URL: url, TLSCA: filepath.Join(dir, "ca.pem"), NkeyFile: filepath.Join(dir, auth.SchedulerKey)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := lithify(t, append([]string{"jobs", "list"}, flags(auth.ClientKey)...)...); code != 0 {
		t.Errorf("the key to submit with: exit code %d, %s", code, stderr)
	}
	for _, args := range [][]string{{"jobs", "list"}, {"jobs", "get", "convert-x"}, {"submit", "convert", "example.com/a:1", "example.com/a:2"}} {
		for _, more := range [][]string{nil, {"--pool-keys", filepath.Join(dir, auth.PublicKeys)}} {
			args := slices.Concat(args, flags(auth.WorkerKey("workers")), more)
			if code, _, stderr := lithify(t, args...); code != 4 || !strings.Contains(stderr, "client.nk") {
				t.Errorf("%v: exit code %d, %q", args, code, stderr)
			}
		}
	}
}

func serveConfig(t *testing.T, path string) (url string) {
	t.Helper()
	opts, err := natsserver.ProcessConfigFile(path)
	if err != nil {
		t.Fatal(err)
	}
	opts.Port, opts.NoSigs, opts.NoLog = natsserver.RANDOM_PORT, true, true
	ns, err := natsserver.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(time.Minute) {
		t.Fatal("server not ready")
	}
	return "tls://" + ns.Addr().String()
}
