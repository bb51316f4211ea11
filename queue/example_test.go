package queue_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/natsd"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
	"golang.org/x/sync/errgroup"
)

// A whole pool in one process: what "lithify serve" does.
func Example() {
	dir, err := os.MkdirTemp("", "pool")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	srv, err := natsd.Start(natsd.Config{Dir: dir, InProcess: true})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Stop()
	ctx, stop := context.WithCancel(context.Background())
	c, err := queue.Connect(ctx, srv.Client())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	var mux jobs.Mux
	jobs.Handle(&mux, func(ctx context.Context, a testArgs) (any, error) {
		jobs.Event(ctx, "greeting", "name", a.Name)
		return "hello " + a.Name, nil
	})
	w, err := worker.New(c, &mux, worker.Config{Name: "w1"})
	if err != nil {
		log.Fatal(err)
	}
	var pool errgroup.Group
	pool.Go(func() error { return scheduler.New(c, validators, scheduler.Config{}).Run(ctx) })
	pool.Go(func() error { return w.Run(ctx) })

	job, err := jobs.New(testArgs{Name: "rock"}, jobs.Options{Submitter: "alice"})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := c.Submit(ctx, job); err != nil {
		log.Fatal(err)
	}
	for e, err := range c.Watch(ctx, job.ID, 0) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Source, e.Phrase)
	}
	st, err := c.Get(ctx, job.ID)
	fmt.Println(st.State, string(st.Result), err)
	stop()
	fmt.Println(pool.Wait())
	// Output:
	// alice submitted
	// w1 attempt started
	// w1 greeting
	// w1 attempt finished
	// w1 done
	// done "hello rock" <nil>
	// <nil>
}
