//go:build linux

package chaos_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/lithify/lithify/test/chaos/history"
)

// TestRandomFaults has a pool work while one fault after the other is done to it.
func TestRandomFaults(t *testing.T) {
	w := newWorld(t, "")
	victims := map[string]*victim{history.Server: {process: w.server}}
	processes, links := []string{history.Server}, []string{}
	for _, name := range []string{"s1", "s2", "w1", "w2", "w3"} {
		n := w.node(name)
		victims[name] = &victim{process: n.process, proxy: n.proxy}
		processes, links = append(processes, name), append(links, name)
	}
	var loads []*load
	for i, name := range []string{"calm", "cut"} { // nothing is done to the first
		loads = append(loads, w.newLoad(name, uint64(i)))
	}
	victims["cut"], links = &victim{proxy: loads[1].proxy}, append(links, "cut")
	ps := plans(rand.New(rand.NewPCG(uint64(*seed), 99)), *faults, processes, links)

	ctx, stop := context.WithCancel(t.Context())
	if *duration > 0 {
		ctx, stop = context.WithTimeout(t.Context(), *duration)
	}
	defer stop()
	var load sync.WaitGroup
	for _, l := range loads {
		load.Go(func() { l.run(ctx, 50*time.Millisecond, 100) })
	}
	began := time.Now()
	w.strike(ctx, ps, victims)
	t.Logf("the faults took %v", time.Since(began).Round(time.Second))
	if n := len(w.log.snapshot().Faults); n < *faults && *duration == 0 {
		t.Errorf("%d faults were done, of %d", n, *faults)
	}
	stop()
	load.Wait()
	w.finish()
}
