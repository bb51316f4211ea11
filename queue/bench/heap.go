package bench

import (
	"context"
	"math"
	"runtime"
	"strings"
	"time"
)

// heapEvery is how often the heap is looked at.
const heapEvery = time.Second

// schedulerPackage is where the scheduler's goroutines begin.
const schedulerPackage = "github.com/lithify/lithify/queue/scheduler."

// watchHeap notes the most that the scheduler holds until ctx is done.
func watchHeap(ctx context.Context, most *int64) {
	for tick := time.Tick(heapEvery); ; {
		*most = max(*most, heapOf(schedulerPackage))
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
	}
}

// heapOf is what is live, at the last garbage collection, of all that was allocated under
// functions whose names begin so: one process holds server, scheduler and worker, and
// this tells them apart. It is the estimate of the heap's profile, by samples.
func heapOf(begins string) (bytes int64) {
	var records []runtime.MemProfileRecord
	for n, ok := runtime.MemProfile(nil, false); !ok; {
		records = make([]runtime.MemProfileRecord, n+n/8+64)
		n, ok = runtime.MemProfile(records, false)
		records = records[:min(n, len(records))]
	}
	for _, r := range records {
		if r.InUseObjects() > 0 && under(r.Stack(), begins) {
			bytes += unsampled(r.InUseBytes(), r.InUseObjects())
		}
	}
	return bytes
}

func under(stack []uintptr, begins string) bool {
	frames := runtime.CallersFrames(stack)
	for {
		f, more := frames.Next()
		if strings.HasPrefix(f.Function, begins) {
			return true
		}
		if !more {
			return false
		}
	}
}

// unsampled is how much there is of what so many bytes of objects were sampled, as pprof
// counts it: the larger an object, the likelier is it in a sample.
func unsampled(bytes, objects int64) int64 {
	size := float64(bytes) / float64(objects)
	return int64(float64(bytes) / (1 - math.Exp(-size/float64(runtime.MemProfileRate))))
}
