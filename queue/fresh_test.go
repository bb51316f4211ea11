package queue_test

import (
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/jobs"
)

// One server never lags; a revision that is written later looks the same to a reader.
func TestReadsWaitForWhatWasHeard(t *testing.T) {
	p := newPool(t)
	if err := p.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	old := p.submit(testArgs{}, jobs.Options{})
	want := old.Revision + 1
	if st, err := p.GetAt(t.Context(), old.ID, want); !errdefs.IsUnavailable(err) {
		t.Errorf("got revision %d, %v of a replica that stays behind", st.Revision, err)
	}
	if st, err := p.GetAt(t.Context(), "test-removed", want); !errdefs.IsNotFound(err) {
		t.Errorf("got %+v, %v of a job that somebody removed", st.Record, err)
	}
	if found, err := p.GetAll(t.Context(), nil, old.ID, want); err != nil || len(found) > 0 {
		t.Errorf("got %v, %v for nothing", found, err)
	}
	if found, err := p.GetAll(t.Context(), []jobs.ID{old.ID}, old.ID, want); !errdefs.IsUnavailable(err) {
		t.Errorf("got %v, %v of a replica that stays behind", found, err)
	}
	time.AfterFunc(20*time.Millisecond, func() { p.apply(old, jobs.Cancel{At: time.Now()}) })
	found, err := p.GetAll(t.Context(), []jobs.ID{old.ID}, old.ID, want)
	if err != nil || found[old.ID].State != jobs.Cancelled {
		t.Errorf("got %v, %v, want the job cancelled", found, err)
	}
	if st, err := p.GetAt(t.Context(), old.ID, want); err != nil || st.State != jobs.Cancelled {
		t.Errorf("got %s, %v, want cancelled", st.State, err)
	}
}
