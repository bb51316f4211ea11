package natsd_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/nats-io/nats.go"

	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/natsd"
)

// TestMain makes this binary a server process when the environment says so.
func TestMain(m *testing.M) {
	if dir := os.Getenv("LITHIFY_TEST_SERVER"); dir != "" {
		_, err := natsd.Start(config(dir))
		fmt.Println("started:", err)
		select {}
	}
	os.Exit(m.Run())
}

func config(dir string) natsd.Config {
	return natsd.Config{Dir: filepath.Join(dir, "store"), ContextFile: filepath.Join(dir, "context.json"), Version: "v9"}
}

func start(t *testing.T, cfg natsd.Config) *natsd.Server {
	t.Helper()
	s, err := natsd.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func stop(t *testing.T, s *natsd.Server) {
	t.Helper()
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
}

func connect(t *testing.T, cfg queue.Config) {
	t.Helper()
	c, err := queue.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
}

func TestServe(t *testing.T) {
	cfg := config(t.TempDir())
	s := start(t, cfg)
	got, err := queue.ReadContext(cfg.ContextFile)
	if err != nil || got.URL != s.URL() || got.PID != os.Getpid() || got.Version != "v9" {
		t.Errorf("context %+v, %v", got, err)
	}
	if !strings.HasPrefix(s.URL(), "nats://127.0.0.1:") {
		t.Errorf("listens on %s", s.URL())
	}
	for _, path := range []string{cfg.ContextFile, got.NkeyFile} {
		if fi, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", path, fi.Mode(), err)
		}
	}
	connect(t, queue.Config{ContextFile: cfg.ContextFile})
	connect(t, s.Client())
	if nc, err := nats.Connect(s.URL()); err == nil {
		nc.Close()
		t.Error("let in without a key")
	}
	url, key := s.URL(), readFile(t, got.NkeyFile)
	stop(t, s)
	if _, err := queue.ReadContext(cfg.ContextFile); !errdefs.IsUnavailable(err) {
		t.Errorf("context after the stop: %v", err)
	}

	s = start(t, cfg)
	defer stop(t, s)
	if s.URL() != url || readFile(t, got.NkeyFile) != key {
		t.Errorf("came back at %s, was at %s, or with another key", s.URL(), url)
	}
	connect(t, queue.Config{ContextFile: cfg.ContextFile})
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestInProcess(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.InProcess = true
	s := start(t, cfg)
	defer stop(t, s)
	connect(t, s.Client())
	if _, err := os.Stat(cfg.ContextFile); err == nil || s.URL() != "" {
		t.Errorf("a server that does not listen says where: %q", s.URL())
	}
}

// A second server on the directory is refused, by name; a killed one leaves no lock.
func TestOneServerPerDirectory(t *testing.T) {
	dir := t.TempDir()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "LITHIFY_TEST_SERVER="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "started: <nil>\n" {
		t.Fatalf("child says %q, %v", line, err)
	}
	cfg := config(dir)
	_, err = natsd.Start(cfg)
	if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), cfg.Dir) || !strings.Contains(err.Error(), fmt.Sprint("process ", child.Process.Pid)) {
		t.Errorf("second server: %v", err)
	}
	connect(t, queue.Config{ContextFile: cfg.ContextFile}) // the first is none the worse for it
	child.Process.Kill()
	child.Wait()
	s := start(t, cfg)
	defer stop(t, s)
	connect(t, queue.Config{ContextFile: cfg.ContextFile})
}

func TestUnusableKey(t *testing.T) {
	cfg := config(t.TempDir())
	stop(t, start(t, cfg))
	key := filepath.Join(cfg.Dir, "client.nk")
	if err := os.WriteFile(key, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := natsd.Start(cfg); err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("got %v", err)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	stop(t, start(t, cfg)) // the failed start left no lock
}
