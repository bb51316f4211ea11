//go:build linux

package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nkeys"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// TestGraduate moves a pool from `lithify serve` to a cluster by a pipe: what is done
// is believed there, and what waits is done.
func TestGraduate(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	c := startCluster(t)
	l := newLoad(c, 2)
	p := &pool{home: t.TempDir()}
	dir := filepath.Join(p.home, "queue")
	serve := func(slots int) (stop func()) {
		s := start(t, p.command(t, lithify(t), "serve", "--dir", dir, "--slots", fmt.Sprint(slots)))
		s.says(t, "pool up", func(line string) (string, bool) { return line, strings.HasPrefix(line, "pool up at ") })
		return func() {
			if err := s.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			<-s.ended
		}
	}
	submit := func(n int, flags ...string) jobs.ID {
		args := append([]string{"submit", "convert", "--insecure", l.source(n % 2), fmt.Sprintf("%s/made:%d", l.registry, n)}, flags...)
		return jobs.ID(strings.TrimSpace(p.output(t, args...)))
	}
	stop := serve(1)
	submit(0, "--wait")
	stop()
	stop = serve(0)
	for n := 1; n <= 20; n++ {
		l.accepted[submit(n)] = n % 2
	}
	stop()
	was := p.moved(t, dir, c)

	keys := filepath.Join(p.home, "keys.json")
	pool, err := queue.ReadKeys(filepath.Join(dir, "keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	public := publicKey(t, c.flags[3])
	if err := (queue.Keys{Scheduler: public, Workers: append(pool.Workers, queue.WorkerKey{Key: public})}).WriteFile(keys); err != nil {
		t.Fatal(err)
	}
	c.flags = append(c.flags, "--pool-keys", keys)
	c.scheduler("s1")
	c.worker("w1")
	l.check()
	var list []queue.Status
	if err := json.Unmarshal([]byte(p.output(t, append([]string{"jobs", "list", "-o", "json", "--state", "done", "--kind", "convert"}, c.flags...)...)), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 21 {
		t.Errorf("%d jobs are done of %+v, want 21", len(list), was)
	}
	c.whole()
}

// publicKey is the public half of the seed in a file.
func publicKey(t *testing.T, seed string) string {
	t.Helper()
	b, err := os.ReadFile(seed)
	if err != nil {
		t.Fatal(err)
	}
	key, err := nkeys.ParseDecoratedNKey(b)
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return public
}

// moved pipes an export of a directory into a cluster.
func (p *pool) moved(t *testing.T, dir string, c *cluster) (im queue.Imported) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	export := p.command(t, lithify(t), "queue", "export", "--dir", dir, "-")
	export.Stdout, export.Stderr = w, t.Output()
	into := p.command(t, lithify(t), append([]string{"queue", "import", "-o", "json", "--replicas", "3", "-"}, c.flags...)...)
	into.Stdin, into.Stderr = r, t.Output()
	out, err := into.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []*exec.Cmd{export, into} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	r.Close()
	w.Close()
	b, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []*exec.Cmd{export, into} {
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	if err := json.Unmarshal(b, &im); err != nil {
		t.Fatal(err)
	}
	return im
}
