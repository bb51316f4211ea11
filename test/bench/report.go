//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/lithify/lithify/test/corpus"
)

// layer measures all stages of one layer and prints their medians.
func (b *bench) layer(ctx context.Context, l *corpus.Layer) error {
	fmt.Printf("\n%s: %.0f MB, gzip %.0f MB, zstd %.0f MB (%.60s)\n", l.Name,
		mb(l.Blobs[corpus.Tar]), mb(l.Blobs[corpus.Gzip]), mb(l.Blobs[corpus.Zstd]), l.Made)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "from\t\twall s\tCPU s\tRSS MB\tblob MB\twritten/blob\t")
	contests := b.contests(l)
	for _, stage := range stages {
		medians, err := b.stage(ctx, l, contests[stage])
		if err != nil {
			return err
		}
		for _, c := range contests[stage] {
			m := medians[c.name]
			ratio := "-"
			if m.blob > 0 {
				ratio = fmt.Sprintf("%.2f", m.written/m.blob)
			}
			fmt.Fprintf(w, "%s\t%s\t%.3f\t%.2f\t%.0f\t%.1f\t%s\t\n", stage, c.name, m.wall, m.cpu, m.rss, m.blob/1e6, ratio)
		}
		b.judge(l.Name, stage, medians)
	}
	return w.Flush()
}

func mb(b corpus.Blob) float64 { return float64(b.Size) / 1e6 }

// stage runs the contestants in turn, n times, and once more on the disk.
func (b *bench) stage(ctx context.Context, l *corpus.Layer, contest []contestant) (map[string]sample, error) {
	runs := map[string][]sample{}
	for range b.n {
		for _, c := range contest {
			s, err := b.once(ctx, l, c, b.out)
			if err != nil {
				return nil, err
			}
			runs[c.name] = append(runs[c.name], s)
		}
	}
	medians := map[string]sample{}
	for _, c := range contest {
		m := median(runs[c.name])
		s, err := b.once(ctx, l, c, b.disk)
		if err != nil {
			return nil, err
		}
		m.written = s.written
		medians[c.name] = m
	}
	return medians, nil
}

func (b *bench) once(ctx context.Context, l *corpus.Layer, c contestant, dir string) (sample, error) {
	s, err := c.measure(ctx, dir)
	if err != nil || c.diffID == 0 {
		return s, err
	}
	if f := strings.Fields(s.output); len(f) < c.diffID || f[c.diffID-1] != l.DiffID().String() {
		return s, fmt.Errorf("%s says %q, want the DiffID %s", c.name, s.output, l.DiffID())
	}
	return s, nil
}

// median takes each figure's own.
func median(runs []sample) sample {
	middle := func(of func(sample) float64) float64 {
		var all []float64
		for _, r := range runs {
			all = append(all, of(r))
		}
		slices.Sort(all)
		return (all[len(all)/2] + all[(len(all)-1)/2]) / 2
	}
	return sample{
		wall: middle(func(s sample) float64 { return s.wall }),
		cpu:  middle(func(s sample) float64 { return s.cpu }),
		rss:  middle(func(s sample) float64 { return s.rss }),
		blob: middle(func(s sample) float64 { return s.blob }),
	}
}

// noTarget is for what is worth knowing without a target.
var noTarget = math.Inf(1)

// target is what lithify is to reach, and what it reached.
type target struct {
	layer, what string
	got, most   float64
}

// judge notes the targets of a stage. Those of memory and of bytes written are
// lithify's alone.
func (b *bench) judge(layer, stage string, m map[string]sample) {
	ours, ok := m["lithify"]
	if !ok {
		return
	}
	ratio := func(ours sample, name, what string, of func(sample) float64, most float64) {
		if other, ok := m[name]; ok && of(other) > 0 {
			b.targets = append(b.targets, target{layer, what, of(ours) / of(other), most})
		}
	}
	against := func(name, what string, of func(sample) float64, most float64) { ratio(ours, name, what, of, most) }
	wall, cpu := func(s sample) float64 { return s.wall }, func(s sample) float64 { return s.cpu }
	switch stage {
	case "tar":
		ratio(m["lithify, no digests"], "mkfs", "tar, wall / mkfs pipe", wall, 0.55)
		against("mkfs+sha256", "tar with both digests, wall / mkfs pipe with them", wall, noTarget)
	case "gzip":
		against("containerd", "gzip job, wall / containerd", wall, 0.33)
		against("containerd", "gzip job, CPU / containerd", cpu, 0.45)
		against("gunzip", "gzip job, wall / klauspost gunzip alone", wall, 1.25)
		b.targets = append(b.targets,
			target{layer, "gzip job, peak RSS in MB", ours.rss, 40},
			target{layer, "gzip job, bytes written / blob bytes", ours.written / ours.blob, 1.01})
	case "to tar":
		against("gunzip", "gzip to erofs-tar, wall / klauspost gunzip alone", wall, 1.05)
	case "zstd":
		against("containerd", "zstd job, wall / containerd", wall, 0.30)
		against("containerd", "zstd job, CPU / containerd", cpu, 0.45)
	case "+zstd":
		against("zstd -3", "erofs+zstd with its index, size / zstd -3 of the image", func(s sample) float64 { return s.blob }, 1.08)
		if parts, ok := m["parts"]; ok && parts.cpu > 0 {
			b.targets = append(b.targets, target{layer, "erofs+zstd, wall / half the CPU of decoder, zstd -3 and three digests", ours.wall / (parts.cpu / 2), 1.15})
		}
	case "small":
		for _, how := range []string{"tails inline", "lz4", "lz4hc", "zstd"} {
			against("mkfs, "+how, "size of the image / mkfs.erofs, "+how, func(s sample) float64 { return s.blob }, noTarget)
			against("mkfs, "+how, "wall / mkfs.erofs, "+how, wall, noTarget)
		}
	}
}

func (b *bench) printTargets(out io.Writer) {
	fmt.Fprintln(out, "\ntargets:")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, t := range b.targets {
		verdict := "ok"
		if t.got > t.most {
			verdict = "MISS"
		}
		bound := fmt.Sprintf("at most %.2f", t.most)
		if t.most == noTarget {
			bound, verdict = "", ""
		}
		fmt.Fprintf(w, "  %s\t%s\t%.2f\t%s\t%s\n", t.layer, t.what, t.got, bound, verdict)
	}
	w.Flush()
}
