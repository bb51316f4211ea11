package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue/scheduler"
)

// The shape of a fan-out: a root waits for parts, each for some images, each for its
// layers, which it shares with its neighbours. A registry's images are like that.
const (
	imagesInPart  = 1000
	layersInImage = 20
	imagesOfLayer = 2
	ownLayers     = layersInImage / imagesOfLayer
)

// branch is the args of a job that waits for others: of the root, a part or an image.
// All kinds are the benchmark's own: on a server of somebody else they mean nothing.
type branch struct {
	Images int `json:"images"` // of the whole
	From   int `json:"from"`   // its images, of a part
	To     int `json:"to"`
}

func (b branch) Validate() error {
	if b.From < 0 || b.To <= b.From || b.To > b.Images {
		return fmt.Errorf("images %d to %d of %d", b.From, b.To, b.Images)
	}
	return nil
}

type (
	root  struct{ branch }
	part  struct{ branch }
	image struct{ branch } // To is From+1
	layer struct {
		N int `json:"n"`
	}
)

func (root) Kind() string  { return "benchroot" }
func (part) Kind() string  { return "benchpart" }
func (image) Kind() string { return "benchimage" }
func (layer) Kind() string { return "benchlayer" }

func (l layer) Identity() any { return l }

func (l layer) Validate() error {
	if l.N < 0 {
		return errors.New("n is negative")
	}
	return nil
}

var fanoutValidators = scheduler.Validators{
	root{}.Kind():  jobs.Validator[root](),
	part{}.Kind():  jobs.Validator[part](),
	image{}.Kind(): jobs.Validator[image](),
	layer{}.Kind(): jobs.Validator[layer](),
}

// children are what a branch waits for.
func (r root) children() (args []jobs.Args) {
	for from := 0; from < r.Images; from += imagesInPart {
		args = append(args, part{branch{r.Images, from, min(from+imagesInPart, r.Images)}})
	}
	return args
}

func (p part) children() (args []jobs.Args) {
	for n := p.From; n < p.To; n++ {
		args = append(args, image{branch{p.Images, n, n + 1}})
	}
	return args
}

func (i image) children() (args []jobs.Args) {
	for k := range layersInImage {
		args = append(args, layer{(i.From*ownLayers + k) % (i.Images * ownLayers)})
	}
	return args
}

// tally counts how often each layer ran and each branch ended.
type tally struct {
	layers []atomic.Int32
	ran    atomic.Int64  // of layers
	half   chan struct{} // closed when half of the layers ran
	ends   atomic.Int64
}

func newTally(layers int) *tally {
	return &tally{layers: make([]atomic.Int32, layers), half: make(chan struct{})}
}

func (t *tally) mux() *jobs.Mux {
	var m jobs.Mux
	jobs.Handle(&m, func(_ context.Context, l layer) (any, error) {
		if l.N >= len(t.layers) {
			return nil, jobs.Permanent(fmt.Errorf("no layer %d", l.N))
		}
		t.layers[l.N].Add(1)
		if t.ran.Add(1) == int64(len(t.layers)/2) {
			close(t.half)
		}
		return 1, nil
	})
	jobs.Handle(&m, func(ctx context.Context, a root) (any, error) { return t.wait(ctx, a.children()) })
	jobs.Handle(&m, func(ctx context.Context, a part) (any, error) { return t.wait(ctx, a.children()) })
	jobs.Handle(&m, func(ctx context.Context, a image) (any, error) { return t.wait(ctx, a.children()) })
	return &m
}

// wait awaits the args' jobs and gives the sum of their results.
func (t *tally) wait(ctx context.Context, args []jobs.Args) (any, error) {
	children := jobs.Children(ctx)
	if len(children) == 0 {
		js := make([]jobs.Job, len(args))
		for i, a := range args {
			var err error
			if js[i], err = jobs.New(a, jobs.Options{}); err != nil {
				return nil, jobs.Permanent(err)
			}
		}
		return nil, jobs.Await(js...)
	}
	sum := 0
	for _, c := range children {
		var n int
		if err := c.Decode(&n); err != nil {
			return nil, jobs.Permanent(err)
		}
		sum += n
	}
	t.ends.Add(1)
	return sum, nil
}

// fan is a pool in which one job fans out, once it is submitted.
type fan struct {
	*tally
	root      jobs.Job
	worker    *service
	scheduler *service
}

func (p *pool) fan(ctx context.Context, images int) (*fan, error) {
	f := &fan{tally: newTally(images * ownLayers)}
	var err error
	if f.root, err = jobs.New(root{branch{images, 0, images}}, jobs.Options{Submitter: "bench"}); err != nil {
		return nil, err
	}
	if f.scheduler, err = p.scheduler(ctx, 0); err != nil {
		return nil, err
	}
	if f.worker, err = p.worker(ctx, "fanout", p.cfg.Slots, f.mux()); err != nil {
		return nil, errors.Join(err, f.scheduler.stop())
	}
	return f, nil
}

func (f *fan) stop() error { return errors.Join(f.worker.stop(), f.scheduler.stop()) }

func (c Config) images() int { return max(c.FanOut/ownLayers, imagesOfLayer) }

// fanOut has one job fan out into images and these into layers, and waits for it.
func (p *pool) fanOut(ctx context.Context) (f FanOut, err error) {
	images := p.cfg.images()
	f.Layers, f.Images, f.Parts, f.Slots = images*ownLayers, images, (images+imagesInPart-1)/imagesInPart, p.cfg.Slots
	t, err := p.fan(ctx, images)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, t.stop()) }()
	counted, stopDepth := context.WithCancel(ctx)
	defer stopDepth()
	var g errgroup.Group
	g.Go(func() error { return p.watchDepth(counted, &f.WorkDepth) })
	g.Go(func() error { watchHeap(counted, &f.SchedulerHeap); return nil })
	began := time.Now()
	if _, err := p.client.Submit(ctx, t.root); err != nil {
		return f, err
	}
	st, err := p.client.Wait(ctx, t.root.ID)
	f.Took = time.Since(began)
	stopDepth()
	if err = errors.Join(err, g.Wait()); err != nil {
		return f, err
	}
	if err := st.Err(); err != nil {
		return f, err
	}
	f.RSS = peakRSS()
	return f, t.check(string(st.Result), f)
}

// check compares what ran with what was to run. Nothing fails here, so nothing runs
// twice.
func (t *tally) check(sum string, f FanOut) error {
	if want := fmt.Sprint(f.Images * layersInImage); sum != want {
		return fmt.Errorf("the root's result is %s, want %s", sum, want)
	}
	if n, want := t.ends.Load(), int64(f.Images+f.Parts+1); n != want {
		return fmt.Errorf("%d jobs that waited have ended, want %d", n, want)
	}
	for i := range t.layers {
		if n := t.layers[i].Load(); n != 1 {
			return fmt.Errorf("layer %d ran %d times, want once", i, n)
		}
	}
	return nil
}
