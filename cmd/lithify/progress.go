package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/lithify/lithify/convert"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// progress shows a conversion: a bar for each layer and phase on a terminal, a
// line at the end of each anywhere else.
type progress struct {
	out      io.Writer
	terminal bool
	bars     *mpb.Progress // made with the first bar: until then others may draw

	mu   sync.Mutex
	open map[string]*mpb.Bar // by layer and phase
}

func newProgress(w io.Writer) *progress {
	f, ok := w.(*os.File)
	return &progress{out: w, terminal: ok && term.IsTerminal(int(f.Fd())), open: map[string]*mpb.Bar{}}
}

func (p *progress) event(e convert.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e.Phase {
	case "convert", "push", "copy":
		p.move(e)
	case "read", "resolve": // have no end that could be shown
	default:
		p.end(e)
	}
}

func (p *progress) move(e convert.Event) {
	if !p.terminal {
		return
	}
	if p.bars == nil {
		p.bars = mpb.New(mpb.WithOutput(p.out), mpb.WithWidth(40), mpb.WithRefreshRate(100*time.Millisecond))
	}
	key := e.Phase + string(e.Layer)
	bar := p.open[key]
	if bar == nil {
		bar = p.bars.AddBar(e.Total,
			mpb.PrependDecorators(decor.Name(fmt.Sprintf("%-8s%.12s ", e.Phase, e.Layer.Encoded()))),
			mpb.AppendDecorators(decor.CountersKibiByte("% .1f / % .1f"), decor.Name(" "), decor.AverageSpeed(decor.SizeB1024(0), "% .1f")))
		p.open[key] = bar
	}
	bar.SetCurrent(min(e.Done, e.Total))
}

func (p *progress) end(e convert.Event) {
	if !p.terminal {
		fmt.Fprintln(p.out, line(e))
		return
	}
	for _, phase := range []string{"convert", "push", "copy"} {
		key := phase + string(e.Layer)
		bar := p.open[key]
		switch {
		case bar == nil:
			continue
		case e.Phase == "failed":
			bar.Abort(false)
		default:
			bar.SetTotal(-1, true)
		}
		delete(p.open, key)
	}
}

func line(e convert.Event) string {
	s := fmt.Sprintf("%s %s %d bytes", e.Phase, e.Layer, e.Total)
	if e.Result != nil {
		s += fmt.Sprintf(" -> %s %d bytes in %v", e.Result.Digest, e.Result.Size, e.Took.Round(time.Millisecond))
	}
	return s
}

// close waits until the last state of every bar is drawn.
func (p *progress) close(err error) {
	if p.bars == nil {
		return
	}
	p.mu.Lock()
	for _, bar := range p.open {
		if err != nil {
			bar.Abort(false)
		} else {
			bar.SetTotal(-1, true)
		}
	}
	p.mu.Unlock()
	p.bars.Wait()
}
