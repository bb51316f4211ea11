package jobs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/lithify/lithify/jobs"
)

type greetArgs struct {
	Name string `json:"name"`
}

func (greetArgs) Kind() string { return "greet" }
func (a greetArgs) Validate() error {
	if a.Name == "" {
		return errors.New("no name")
	}
	return nil
}

func ExampleHandle() {
	var mux jobs.Mux
	jobs.Handle(&mux, func(ctx context.Context, a greetArgs) (any, error) {
		jobs.Event(ctx, "greeting", "name", a.Name)
		return "hello " + a.Name, nil
	})
	result, err := mux.Run(context.Background(), "greet", json.RawMessage(`{"name":"rock"}`))
	fmt.Println(string(result), err)
	_, err = mux.Run(context.Background(), "greet", json.RawMessage(`{}`))
	fmt.Println(err, jobs.ClassOf(err))
	// Output:
	// "hello rock" <nil>
	// greet: no name permanent
}

func ExampleNext() {
	j, _ := jobs.New(greetArgs{"rock"}, jobs.Options{})
	now := time.Now()
	r, _ := jobs.Next(jobs.Record{}, jobs.Open{Job: j, At: now})
	r, _ = jobs.Next(r, jobs.Claim{Worker: "w1", At: now})
	r, _ = jobs.Next(r, jobs.Finish{Claim: 42, Result: json.RawMessage(`"hello"`), At: now})
	fmt.Println(r.State, r.Worker, string(r.Result))
	_, err := jobs.Next(r, jobs.Claim{Worker: "w2", At: now})
	fmt.Println(err != nil)
	// Output:
	// done w1 "hello"
	// true
}
