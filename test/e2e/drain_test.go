//go:build linux

package e2e_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/test/corpus"
)

// TestDrain tells a worker to stop in the middle of a layer. Within its grace it ends
// what it runs; after it, it hands the layer back, which costs no attempt. Either way it
// takes no more jobs, leaves nothing behind and ends well.
func TestDrain(t *testing.T) {
	l := openLayer(t, "node_modules")
	registry := startRegistry(t)
	image, err := corpus.Image(corpus.Linux, nil, l.Registry(corpus.Gzip))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ grace, by string }{
		"hands back": {"1ms", "second"},
		"finishes":   {"10m", "first"},
	} {
		t.Run(name, func(t *testing.T) {
			repo := registry + "/" + strings.ReplaceAll(name, " ", "-")
			push(t, image, repo+":tar")
			p, key := startPool(t, 0), ledgerKey(t)
			first, temp := p.worker(t, "first", "--ledger-key", key, "--grace", tc.grace)
			id := strings.TrimSpace(p.output(t, "submit", "convert", "--insecure", repo+":tar", repo+":erofs"))
			await(t, "a layer half written", func(context.Context) error { return holdsMB(first.Process.Pid, temp, 50) })
			if err := first.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			await(t, "end of the worker", func(context.Context) error {
				select {
				case <-first.ended:
					return nil
				default:
					return errors.New("it runs")
				}
			})
			if first.err != nil {
				t.Errorf("the worker ended with %v", first.err)
			}
			if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
				t.Errorf("it left %v, %v", left, err)
			}
			if st := p.job(t, id); st.State.Ended() {
				t.Errorf("the image is %s: who drains took another job", st.State)
			}
			p.worker(t, "second", "--ledger-key", key)
			p.output(t, "jobs", "watch", id)
			if st := p.job(t, id); st.State != jobs.Done || st.Worker != "second" {
				t.Errorf("image: %s by %s", st.State, st.Worker)
			}
			for _, st := range p.layers(t) {
				if st.State != jobs.Done || st.Worker != tc.by || st.Attempt != 1 {
					t.Errorf("layer: %s by %s at attempt %d, want done by %s at the first", st.State, st.Worker, st.Attempt, tc.by)
				}
			}
		})
	}
}
