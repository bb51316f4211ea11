//go:build linux

package e2e_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/lithify/lithify/restore"
)

// BenchmarkRestore makes 8 containers of one checkpoint with 150 MB of memory, side by side,
// in turn from a checkpoint that is unpacked here already and by unpacking it for each.
// Reported is how many times longer the second takes, by medians (the target is 2.5), and how
// many times longer one restore takes, until the processes run, than CRIU's own work
// in it (the target is 2).
//
//	go test ./test/e2e -run '^$' -bench Restore -benchtime 5x -test.root -v
func BenchmarkRestore(b *testing.B) {
	const clones = 8
	d, registry, c := startThat(b, 2, "overlayfs", "m=$(head -c 112000000 /dev/urandom | base64 -w0)\n"+counts)
	c.goesOn(b, 3)
	ref := registry + "/saved:1"
	output(b, lithify(b), "checkpoint", "--containerd", d.address, "--insecure", c.id, ref)

	made := 0
	next := func() string {
		made++
		return d.restored(b, fmt.Sprint("bench-", made)).id
	}
	all := func(root func(name string) string) time.Duration {
		var names []string
		for range clones {
			names = append(names, next())
		}
		took := timed(func() {
			var wg sync.WaitGroup
			for _, name := range names {
				wg.Go(func() {
					if _, err := try(b, lithify(b), "restore", "--containerd", d.address, "--restore-root", root(name), "--insecure", "--name", name, ref); err != nil {
						b.Error(err)
					}
				})
			}
			wg.Wait()
		})
		for _, name := range names {
			d.ctr("tasks", "rm", "--force", name)
			d.ctr("containers", "rm", name)
		}
		return took
	}
	shared := func(string) string { return d.restoreRoot() }
	all(shared) // unpacks it
	var cached, unpacked, once, criu []time.Duration
	for b.Loop() {
		cached = append(cached, all(shared))
		unpacked = append(unpacked, all(func(name string) string { return filepath.Join(d.restoreRoot(), "of", name) }))
		name := next()
		var r restore.Result
		out := output(b, lithify(b), d.restoreArgs(ref, name, "-o", "json")...)
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			b.Fatal(err)
		}
		once, criu = append(once, r.Took), append(criu, r.CRIU)
		d.ctr("tasks", "rm", "--force", name)
		d.ctr("containers", "rm", name)
	}
	b.ReportMetric(median(cached).Seconds(), "cached-s")
	b.ReportMetric(median(unpacked).Seconds(), "unpacked-s")
	b.ReportMetric(median(unpacked).Seconds()/median(cached).Seconds(), "times")
	b.ReportMetric(median(once).Seconds(), "running-s")
	b.ReportMetric(median(criu).Seconds(), "criu-s")
	b.ReportMetric(median(once).Seconds()/median(criu).Seconds(), "times-criu")
	b.ReportMetric(0, "ns/op")
}
