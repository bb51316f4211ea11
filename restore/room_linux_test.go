package restore

import (
	"math"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestRoom(t *testing.T) {
	if err := room(t.TempDir(), 1); err != nil {
		t.Errorf("a byte: %v", err)
	}
	if err := room(t.TempDir(), math.MaxInt64); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "--restore-root") {
		t.Errorf("more than any disk has: got %v", err)
	}
}
