package run_test

import (
	"crypto/ed25519"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/lithify/lithify/jobs/convert/run"
)

// Servers that start together sign with one key, the one in the file.
func TestEnsureKeyTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "ledger.pem")
	keys := make([]ed25519.PrivateKey, 16)
	var g errgroup.Group
	start := make(chan struct{})
	for i := range keys {
		g.Go(func() (err error) {
			<-start
			keys[i], err = run.EnsureKey(path)
			return err
		})
	}
	close(start)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	want, err := run.LoadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, got := range keys {
		if !got.Equal(want) {
			t.Errorf("server %d has another key than the file", i)
		}
	}
	if again, err := run.EnsureKey(path); err != nil || !again.Equal(want) {
		t.Errorf("the next start has another key: %v", err)
	}
	if fi, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("left beside the key: %v, %v", left, err)
	}
}

// A key that cannot be read is an error and stays as it is: records were signed
// with it.
func TestEnsureKeyKeepsWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.pem")
	const half = "-----BEGIN PRIVATE KEY-----\nMC4CAQ"
	if err := os.WriteFile(path, []byte(half), 0o600); err != nil {
		t.Fatal(err)
	}
	if key, err := run.EnsureKey(path); err == nil {
		t.Errorf("got %x", key.Public())
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != half {
		t.Errorf("the file is %q now, %v", got, err)
	}
}
