//go:build linux

// Command bench measures lithify beside the converters it is to beat, on the same
// layers, in one run and in turn, each as a process of its own:
//
//	go run ./test/bench [-n 5] [-layers debian,go,devel,node_modules] [-out /dev/shm]
//
// Printed are medians and, beside each target, the ratio of medians. A MISS is not
// a failure: the exit code tells whether everything ran and every converter found
// the same DiffID. Programs come from PATH (test/tools/install.sh); what is
// missing is named.
//
// Input lies in the page cache and output on tmpfs, so that the disk is not what
// is measured; bytes written are counted in one more run of each on a disk, where
// the kernel counts them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/lithify/lithify/test/corpus"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	n := flag.Int("n", 5, "runs of each, of which the median counts")
	layers := flag.String("layers", "debian,go,devel,node_modules", "layers of test/corpus")
	out := flag.String("out", "/dev/shm", "where blobs go while time is measured")
	disk := flag.String("disk", "/var/tmp", "where blobs go while bytes are counted; not a tmpfs")
	flag.Parse()
	b, err := newBench(ctx, *out, *disk, *n)
	if err != nil {
		return err
	}
	defer b.close()
	fmt.Println("All is measured with --verify=none but where another mode is said: no other converter compares what it made.")
	for _, name := range strings.Split(*layers, ",") {
		l, err := corpus.Open(ctx, name)
		if errors.Is(err, corpus.ErrUnavailable) {
			fmt.Printf("layer %s is left out: %v\n", name, err)
			continue
		}
		if err != nil {
			return err
		}
		if err := b.layer(ctx, l); err != nil {
			return fmt.Errorf("layer %s: %w", name, err)
		}
	}
	if err := b.shared(ctx); err != nil {
		return err
	}
	b.printTargets(os.Stdout)
	return nil
}

// shared prints what an image has in common with a later version of it, and with one that
// was made of the same packages in part.
func (b *bench) shared(ctx context.Context) error {
	var tars []string
	for _, name := range []string{"debian", "devel"} {
		l, err := corpus.Open(ctx, name)
		if errors.Is(err, corpus.ErrUnavailable) {
			fmt.Printf("what images share is left out: %v\n", err)
			return nil
		}
		if err != nil {
			return err
		}
		tars = append(tars, l.Path(corpus.Tar))
	}
	for _, two := range []struct{ name, tar string }{{"a later version of debian", "newer"}, {"devel", tars[1]}} {
		cmd := exec.CommandContext(ctx, b.ours, "shared", tars[0], two.tar)
		cmd.Stderr, cmd.Env = os.Stderr, append(os.Environ(), "TMPDIR="+b.disk)
		out, err := cmd.Output()
		if err != nil {
			return err
		}
		fmt.Printf("\ndebian and %s, %s", two.name, out)
	}
	return nil
}

// bench is one run of everything.
type bench struct {
	n         int
	out, disk string // directories of its own
	ours      string // the built program
	has       map[string]bool
	targets   []target
}

func newBench(ctx context.Context, out, disk string, n int) (b *bench, err error) {
	b = &bench{n: n, has: map[string]bool{}}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.out, err = os.MkdirTemp(out, "lithify-bench"); err != nil {
		return nil, err
	}
	if b.disk, err = os.MkdirTemp(disk, "lithify-bench"); err != nil {
		return nil, err
	}
	for _, name := range []string{"mkfs.erofs", "ctrdconvert", "unpigz", "gzip", "sh"} {
		if _, err := exec.LookPath(name); err != nil {
			fmt.Printf("no %s: run test/tools/install.sh; what needs it is left out\n", name)
			continue
		}
		b.has[name] = true
	}
	b.ours = filepath.Join(b.disk, "ours")
	build := exec.CommandContext(ctx, "go", "build", "-o", b.ours, "./test/bench/ours")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	return b, build.Run()
}

func (b *bench) close() {
	for _, dir := range []string{b.out, b.disk} {
		if dir != "" {
			os.RemoveAll(dir)
		}
	}
}
