//go:build linux

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/test/corpus"
)

// TestLostStore takes the queue's whole store away in the middle of an image. Submitted
// again to an empty pool it converts what is missing, and nothing whose result is in
// the registry.
func TestLostStore(t *testing.T) {
	registry := startRegistry(t)
	src := registry + "/lost:tar"
	push(t, probeImage(t, "application/vnd.oci.image.layer.v1.tar+gzip", corpus.Linked), src)
	submit := []string{"submit", "convert", "--insecure", src, registry + "/lost:erofs"}
	key := ledgerKey(t)

	p := startPool(t, 0)
	w, _ := p.worker(t, "first", "--ledger-key", key)
	p.output(t, submit...)
	await(t, "a layer in the registry", func(context.Context) error {
		if len(inRegistry(t, p.layers(t))) == 0 {
			return errors.New("none is in the registry")
		}
		return nil
	})
	if err := w.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-w.ended
	made := inRegistry(t, p.layers(t))
	p.kill(t)
	if err := os.RemoveAll(filepath.Join(p.home, "queue")); err != nil {
		t.Fatal(err)
	}

	p.serve(t, 0)
	p.worker(t, "second", "--ledger-key", key)
	id := strings.TrimSpace(p.output(t, submit...))
	p.output(t, "jobs", "watch", id)
	if st := p.job(t, id); st.State != jobs.Done {
		t.Fatalf("got %+v", st.Record)
	}
	for _, st := range p.layers(t) {
		if slices.Contains(made, st.ID) {
			t.Errorf("layer %s was asked for again, whose result is in the registry", st.ID)
		}
	}
	if want, got := digestOf(convert(t, src, registry+"/lost:here")), output(t, need(t, "crane"), "digest", "--insecure", registry+"/lost:erofs"); strings.TrimSpace(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// layers are the pool's layer jobs.
func (p *pool) layers(t *testing.T, flags ...string) (list []queue.Status) {
	t.Helper()
	if err := json.Unmarshal([]byte(p.output(t, append([]string{"jobs", "list", "--kind", "layer", "-o", "json"}, flags...)...)), &list); err != nil {
		t.Fatal(fmt.Errorf("jobs list: %w", err))
	}
	return list
}

// inRegistry are the layer jobs whose layer is in the ledger. (One whose layer cannot be
// made without those below has found out no more than that.)
func inRegistry(t *testing.T, list []queue.Status) (ids []jobs.ID) {
	t.Helper()
	for _, st := range list {
		var r struct{ Layer json.RawMessage } // convert.LayerResult
		if st.State != jobs.Done {
			continue
		}
		if err := json.Unmarshal(st.Result, &r); err != nil {
			t.Fatal(err)
		}
		if r.Layer != nil {
			ids = append(ids, st.ID)
		}
	}
	return ids
}
