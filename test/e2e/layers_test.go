//go:build linux

package e2e_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lithify/lithify/jobs"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/test/corpus"
)

// TestLayersAreShared has two workers convert three images that share layers. Each
// layer is a job, done once; the digests are those of a conversion without a pool.
func TestLayersAreShared(t *testing.T) {
	registry := startRegistry(t)
	image := probeImage(t, "application/vnd.oci.image.layer.v1.tar+gzip", corpus.Linked)
	for _, repo := range []string{"one", "two", "three"} {
		push(t, image, registry+"/"+repo+":tar")
	}
	p := startPool(t, 0)
	key := ledgerKey(t)
	p.worker(t, "first", "--ledger-key", key)
	p.worker(t, "second", "--ledger-key", key)
	var ids []string
	for _, repo := range []string{"one", "two", "three"} {
		ids = append(ids, strings.TrimSpace(p.output(t, "submit", "convert", "--insecure", registry+"/"+repo+":tar", registry+"/"+repo+":erofs")))
	}
	want := digestOf(convert(t, registry+"/one:tar", registry+"/one:here"))
	for _, id := range ids {
		p.output(t, "jobs", "watch", id) // until it ends
		st := p.job(t, id)
		var made struct {
			Descriptor struct{ Digest string }
		}
		if err := json.Unmarshal(st.Result, &made); err != nil {
			t.Fatalf("job %s is %s, %+v: %v", id, st.State, st.Failure, err)
		}
		if made.Descriptor.Digest != want {
			t.Errorf("job %s made %s, want %s", id, made.Descriptor.Digest, want)
		}
		if st.Waits == 0 {
			t.Errorf("job %s did not wait for its layers", id)
		}
	}
	var layers []queue.Status
	if err := json.Unmarshal([]byte(p.output(t, "jobs", "list", "--kind", "layer", "-o", "json")), &layers); err != nil {
		t.Fatal(err)
	}
	distinct := map[string]bool{}
	for _, st := range layers {
		if st.State != jobs.Done || st.Attempt != 1 || st.Generation != 1 {
			t.Errorf("layer job %s is %s at attempt %d of generation %d, want done at the first", st.ID, st.State, st.Attempt, st.Generation)
		}
		distinct[string(st.ID)] = true
	}
	if len(distinct) < 2 || len(distinct) != len(layers) {
		t.Errorf("%d layer jobs, %d of them distinct", len(layers), len(distinct))
	}
}

// ledgerKey makes the key of a pool, and says where it is.
func ledgerKey(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger.pem")
	if _, err := convertrun.EnsureKey(path); err != nil {
		t.Fatal(err)
	}
	return path
}
