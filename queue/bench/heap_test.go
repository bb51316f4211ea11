package bench

import (
	"runtime"
	"testing"
)

//go:noinline
func hold(n int) [][]byte {
	held := make([][]byte, n)
	for i := range held {
		held[i] = make([]byte, 1<<10)
	}
	return held
}

// TestHeapOf: what a function holds is counted, and no more once nobody holds it.
func TestHeapOf(t *testing.T) {
	const name, mib = "github.com/lithify/lithify/queue/bench.hold", 64
	look := func() int64 {
		runtime.GC()
		runtime.GC() // the profile is that of the last but one
		return heapOf(name) >> 20
	}
	held := hold(mib << 10)
	if got := look(); got < mib/2 || got > mib*2 {
		t.Errorf("%d MiB are held, want about %d", got, mib)
	}
	runtime.KeepAlive(held)
	held = nil
	if got := look(); got > mib/8 {
		t.Errorf("%d MiB are held, want none", got)
	}
}
