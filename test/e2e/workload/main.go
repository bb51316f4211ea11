// Command workload is a program of Go that a test has checkpointed: goroutines on several
// threads, a timer, memory with a pattern, a file that is open and one that is open and
// deleted. It counts in memory and in both files, and writes to /wrong where they differ.
package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

func main() {
	os.WriteFile("/wrong", []byte(run().Error()), 0o644)
	os.Exit(1)
}

// run ends where something is wrong.
func run() error {
	if err := os.Remove("/etc/issue"); err != nil {
		return err
	}
	deleted, err := os.Create("/tmp/deleted")
	if err != nil {
		return err
	}
	if err := os.Remove(deleted.Name()); err != nil {
		return err
	}
	open, err := os.Create("/open")
	if err != nil {
		return err
	}
	memory := pattern()
	var busy atomic.Int64
	var held sync.WaitGroup
	for range 3 { // each on a thread of its own
		held.Go(func() {
			runtime.LockOSThread()
			for {
				busy.Add(1)
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	tick := time.NewTicker(50 * time.Millisecond)
	for n := 0; ; n++ {
		for name, f := range map[string]*os.File{"open": open, "deleted": deleted} {
			if n > 0 {
				if err := same(f, n-1); err != nil {
					return fmt.Errorf("the %s file: %w", name, err)
				}
			}
			if _, err := f.WriteAt(fmt.Appendf(nil, "%08d", n), 0); err != nil {
				return err
			}
		}
		if !slices.Equal(memory, pattern()) {
			return fmt.Errorf("memory has another pattern at %d", n)
		}
		if err := os.WriteFile("/count.new", fmt.Append(nil, n), 0o644); err != nil {
			return err
		}
		if err := os.Rename("/count.new", "/count"); err != nil {
			return err
		}
		was := busy.Load()
		<-tick.C
		if n%10 == 9 {
			time.Sleep(100 * time.Millisecond)
			if busy.Load() == was {
				return fmt.Errorf("the other threads stand still at %d", n)
			}
		}
	}
}

func pattern() []uint64 {
	all := make([]uint64, 1<<19) // 4 MiB
	x := uint64(1)
	for i := range all {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		all[i] = x
	}
	return all
}

func same(f *os.File, n int) error {
	var b [8]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		return err
	}
	if got, err := strconv.Atoi(string(b[:])); err != nil || got != n {
		return fmt.Errorf("it has %q and memory %d", b, n)
	}
	return nil
}
