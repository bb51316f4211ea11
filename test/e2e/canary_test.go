//go:build linux

package e2e_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lithify/lithify/jobs"
	convertjob "github.com/lithify/lithify/jobs/convert"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/test/corpus"
)

// TestNoSecretInAnyJob has a pool convert an image that needs passwords: once well,
// twice with a password that is refused, once with a registry that goes away in the
// middle of a layer. Then it looks for the passwords, and for the tokens that were
// given for them, in all that the pool has left anywhere.
func TestNoSecretInAnyJob(t *testing.T) {
	h := newHaystack(t)
	basic, _ := startBasicRegistry(t, h.dir("basic"))
	token, given := startTokenRegistry(t, h.dir("token"), map[string]user{"robot": {password, []string{"*/*"}}})
	leaving := startLeaving(t)
	// The same registries by another name, for which the worker has another password.
	basicToo, tokenToo := strings.Replace(basic, "127.0.0.1", "localhost", 1), strings.Replace(token, "127.0.0.1", "localhost", 1)
	passwords := map[string]string{basic: password, token: password, leaving: password, basicToo: password, tokenToo: password}
	t.Setenv("DOCKER_CONFIG", dockerConfig(t, "robot", passwords)) // for crane, and for who submits
	passwords[basicToo], passwords[tokenToo] = "wr0ng-"+canary, "wr0ng-"+canary
	worker := h.pool
	worker.env = append(worker.env, "DOCKER_CONFIG="+dockerConfig(t, "robot", passwords))
	image := probeImage(t, "application/vnd.oci.image.layer.v1.tar+gzip", corpus.Linked)
	push(t, image, basic+"/private/app:tar")
	push(t, image, leaving+"/private/app:tar")

	collector := h.hears("the collector", startCollector(t))
	public, seed := poolKey(t)
	config := natsConfig(t, "single.conf", []string{"LITHIFY_NKEY=" + public}, "127.0.0.1:4222", "127.0.0.1:-1", "/var/lib/nats", h.dir("nats"))
	serve := command(t, need(t, "nats-server"), "-DV", "-c", config) // it logs every message that it gets
	serve.Env = append(serve.Env, "LITHIFY_NKEY="+public)
	server := h.hears("nats-server", start(t, serve))
	flags := []string{"--nats", "nats://" + server.address(t), "--nkey", seed}
	with := func(args ...string) []string { return append(args, flags...) }
	scheduler := h.hears("the scheduler", start(t, h.pool.command(t, program(t, "lithify-scheduler", "../../cmd/scheduler"), with("--verbose")...)))
	w := h.hears("the worker", start(t, worker.command(t, program(t, "lithify-worker", "../../cmd/worker"),
		with("--verbose", "--temp-dir", h.dir("layers"), "--ledger-key", ledgerKey(t))...)))

	for _, tc := range []struct {
		src, dst string
		well     bool
	}{
		{basic, token + "/private/app:erofs", true},
		{basicToo, token + "/private/refused:erofs", false},
		{basic, tokenToo + "/private/refused:erofs", false},
	} {
		if err := h.lithify(with("submit", "convert", "--verbose", "--wait", "--insecure", tc.src+"/private/app:tar", tc.dst)...); (err == nil) != tc.well {
			t.Errorf("%s to %s: %v", tc.src, tc.dst, err)
		}
	}
	client, err := queue.Connect(t.Context(), queue.Config{URL: flags[1], NkeyFile: seed})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	h.dies(client, convertjob.Args{Source: leaving + "/private/app:tar", Output: convertjob.Output{Target: token + "/private/left:erofs", Insecure: true}})
	h.lookAround(client, flags)
	await(t, "logs at the collector", func(context.Context) error {
		if !strings.Contains(collector.said(), "Str(job ended)") {
			return errors.New("none")
		}
		return nil
	})
	w.stop(t)
	scheduler.stop(t)
	if err := h.lithify(with("queue", "export", filepath.Join(h.dir("archive"), "pool.jsonl"))...); err != nil {
		t.Fatal(err)
	}

	secrets := []string{canary}
	for _, token := range given.all() {
		secrets = append(secrets, strings.Split(token, ".")[1:]...) // its claims, and its signature
	}
	if len(secrets) < 5 {
		t.Errorf("only %d tokens were given", len(secrets)/2)
	}
	for _, place := range h.find(client.JetStream(), secrets) {
		t.Errorf("a secret is in %s", place)
	}
	h.canFind(client, secrets)
}

// startLeaving runs a registry that dies, and all connections to it with it, in the
// middle of the first large blob that is fetched.
func startLeaving(t *testing.T) (host string) {
	t.Helper()
	behind, p := startBasicRegistry(t, t.TempDir())
	var srv *httptest.Server
	leave := sync.OnceFunc(func() {
		p.Process.Kill()
		srv.Listener.Close()
		go srv.CloseClientConnections() // it waits for them
	})
	srv = serveHTTP(t, proxy(behind, func(r *http.Response) {
		if bringsBlob(r, 100_000) {
			r.Body = &halting{r.Body, r.ContentLength / 2, func() (int64, error) { leave(); return 0, io.ErrUnexpectedEOF }}
		}
	}))
	return hostOf(srv)
}

// dies submits a job that dies at its first attempt, which leaves a letter.
func (h *haystack) dies(client *queue.Client, a convertjob.Args) {
	h.t.Helper()
	job, err := jobs.New(a, jobs.Options{MaxAttempts: 1})
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := client.Submit(h.t.Context(), job); err != nil {
		h.t.Fatal(err)
	}
	st, err := client.Wait(h.t.Context(), job.ID)
	if err != nil || st.State != jobs.Dead {
		h.t.Fatalf("job %s is %s: %v, %v", job.ID, st.State, st.Failure, err)
	}
	await(h.t, "its letter", func(ctx context.Context) error {
		letters, err := client.Letters(ctx)
		if len(letters) == 0 {
			return errors.Join(err, errors.New("none"))
		}
		return err
	})
}

// lookAround has the command line tell what it can.
func (h *haystack) lookAround(client *queue.Client, flags []string) {
	h.t.Helper()
	commands := [][]string{{"jobs", "list"}, {"jobs", "dead"}, {"workers"}, {"schedulers"}, {"pool", "show"}, {"cron", "list"}}
	all, err := client.List(h.t.Context(), queue.Filter{})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, st := range all {
		for _, verb := range []string{"get", "explain", "watch"} {
			commands = append(commands, []string{"jobs", verb, string(st.ID)})
		}
	}
	for _, c := range commands {
		for _, form := range []string{"text", "json"} {
			if err := h.lithify(append(append(c, "--verbose", "--output", form), flags...)...); err != nil && !slices.Contains(c, "watch") { // its exit code is the job's
				h.t.Error(err)
			}
		}
	}
}

// canFind puts secrets where they must not be, and checks that they are found there.
func (h *haystack) canFind(client *queue.Client, secrets []string) {
	h.t.Helper()
	js := client.JetStream()
	want := h.plant(js, secrets)
	found := strings.Join(h.find(js, secrets), "\n")
	for _, place := range want {
		if !strings.Contains(found, place) {
			h.t.Errorf("what was put into %s was not found, but what is in:\n%s", place, found)
		}
	}
}
