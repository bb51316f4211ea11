//go:build linux

package e2e_test

import (
	"math"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/test/corpus"
)

// slowRegistry gives half of each layer at once and then a byte now and then, until
// it is told to go on.
type slowRegistry struct {
	host string
	half chan struct{} // closed when half of a layer has been given
	goOn chan struct{} // closed by the test
	made chan struct{} // closed when a layer is in the ledger

	fetches, entries atomic.Int32 // of layers, and in the ledger
}

func startSlowRegistry(t *testing.T) *slowRegistry {
	t.Helper()
	s := &slowRegistry{half: make(chan struct{}), goOn: make(chan struct{}), made: make(chan struct{})}
	half, made := sync.OnceFunc(func() { close(s.half) }), sync.OnceFunc(func() { close(s.made) })
	s.host = hostOf(serveHTTP(t, proxy(startRegistry(t), func(r *http.Response) {
		switch {
		case bringsBlob(r, 1<<20) && !strings.Contains(r.Request.URL.Path, "/ledger/"):
			s.fetches.Add(1)
			r.Body = &halting{r.Body, r.ContentLength / 2, func() (int64, error) {
				half()
				select {
				case <-s.goOn:
					return math.MaxInt64, nil
				case <-time.After(100 * time.Millisecond):
					return 1, nil
				}
			}}
		case r.Request.Method == http.MethodPut && strings.Contains(r.Request.URL.Path, "/ledger/manifests/layer-"):
			s.entries.Add(1)
			made()
		}
	})))
	return s
}

// TestWorkersGoOnWithoutNATS has the server away for longer than the ack wait while a
// layer is converted. That goes on, and counts: the layer is converted once, and its
// job has used one attempt.
func TestWorkersGoOnWithoutNATS(t *testing.T) {
	if testing.Short() {
		t.Skip("takes longer than the ack wait, 30 s")
	}
	for name, tc := range map[string]struct{ stopped, meanwhile bool }{
		"killed":                    {},
		"killed and the layer done": {meanwhile: true},
		"silent":                    {stopped: true},
		"silent and the layer done": {stopped: true, meanwhile: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry := startSlowRegistry(t)
			src := registry.host + "/app:tar"
			layer, err := random.Layer(8<<20, types.OCILayer)
			if err != nil {
				t.Fatal(err)
			}
			image, err := corpus.Image(corpus.Linux, nil, layer)
			if err != nil {
				t.Fatal(err)
			}
			push(t, image, src)

			public, seed := poolKey(t)
			address := freeAddrs(t, 1)[0]
			config := natsConfig(t, "single.conf", []string{"LITHIFY_NKEY=" + public}, "127.0.0.1:4222", address, "/var/lib/nats", t.TempDir())
			serve := func() *process { return natsServer(t, config, "LITHIFY_NKEY="+public) }
			server := serve()
			server.address(t)
			p := &pool{home: t.TempDir()}
			flags := []string{"--nats", "nats://" + address, "--nkey", seed}
			start(t, p.command(t, program(t, "lithify-scheduler", "../../cmd/scheduler"), flags...))
			p.worker(t, "w1", append([]string{"--ledger-key", ledgerKey(t)}, flags...)...)
			id := strings.TrimSpace(p.output(t, append([]string{"submit", "convert", "--insecure", src, registry.host + "/app:erofs"}, flags...)...))

			happens(t, "half a layer", registry.half)
			away := time.NewTimer(scheduler.DefaultAckWait * 4 / 3)
			signal := syscall.SIGKILL
			if tc.stopped {
				signal = syscall.SIGSTOP
			}
			if err := server.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			if tc.meanwhile {
				close(registry.goOn)
				happens(t, "layer in the ledger", registry.made)
			}
			<-away.C
			if tc.stopped {
				err = server.Process.Signal(syscall.SIGCONT)
			} else {
				<-server.ended
				serve().address(t)
			}
			if err != nil {
				t.Fatal(err)
			}
			if !tc.meanwhile {
				close(registry.goOn)
			}

			p.output(t, append([]string{"jobs", "watch", id}, flags...)...) // until it ends
			for _, st := range append(p.layers(t, flags...), p.job(t, id, flags...)) {
				if st.State != jobs.Done || st.Attempt != 1 || st.Poisoned != 0 || st.Generation != 1 {
					t.Errorf("%s is %s at attempt %d, of them poisoned %d: %v", st.ID, st.State, st.Attempt, st.Poisoned, st.Failure)
				}
			}
			t.Logf("the message of the layer was delivered %d times", delivered(t, flags))
			if f, e := registry.fetches.Load(), registry.entries.Load(); f != 1 || e != 1 {
				t.Errorf("the layer was fetched %d times, and entered in the ledger %d times", f, e)
			}
		})
	}
}

// delivered is how often messages of layers were handed out.
func delivered(t *testing.T, flags []string) (n uint64) {
	t.Helper()
	client, err := queue.Connect(t.Context(), queue.Config{URL: flags[1], NkeyFile: flags[3]})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	work, err := client.JetStream().Stream(t.Context(), queue.StreamWork)
	if err != nil {
		t.Fatal(err)
	}
	consumers := work.ListConsumers(t.Context())
	for c := range consumers.Info() {
		if strings.Contains(c.Name, "layer") {
			n += c.Delivered.Consumer
		}
	}
	if err := consumers.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}
