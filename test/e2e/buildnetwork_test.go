//go:build linux

package e2e_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// TestBuildNetwork: steps reach what listens on the loopback of the worker's machine where its
// operator lets them, and no network at all where not, whatever job and Dockerfile say.
func TestBuildNetwork(t *testing.T) {
	b := startBuilder(t)
	p := &buildPool{builder: b, pool: startPool(t, 0)}
	var reached atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	t.Cleanup(s.Close)
	p.pool.worker(t, "converter", "--kinds", "convert,layer", "--ledger-key", ledgerKey(t))
	ask := "busybox wget -q -O /dev/null " + s.URL + " || echo no way"
	dir := b.context(fmt.Sprintf("FROM scratch AS one\nADD base.tar /\nRUN %s\nFROM one\nRUN --network=default %s # once more\n", ask, ask))
	for network, want := range map[string]int64{"none": 0, "host": 2} {
		w, _ := p.pool.worker(t, "builder-"+network, "--kinds", "build", "--buildkit-root", shortDir(t), "--buildkit-network", network)
		reached.Store(0)
		_, said, code := p.submit(t, dir, "app:"+network, "--network", "default")
		if got := reached.Load(); code != 0 || got != want {
			t.Errorf("%s: exit code %d, the host was reached %d times, want %d\n%s", network, code, got, want, tail(said))
		}
		if network == "none" { // a step that would have more without asking
			_, said, code = p.submit(t, dir, "app:sbom", "--attest", "type=sbom,generator="+b.registry+"/scanner:1")
			if code != 3 || !strings.Contains(said, "generator is a step") {
				t.Errorf("exit code %d for an SBOM\n%s", code, tail(said))
			}
		}
		w.stop(t)
	}
}
