package run_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"

	"github.com/lithify/lithify/jobs"
	buildjob "github.com/lithify/lithify/jobs/build"
	"github.com/lithify/lithify/jobs/build/run"
	convertjob "github.com/lithify/lithify/jobs/convert"
)

// A build that is spread first waits for jobs that build a platform each, on workers of these.
func ExampleHandler_Register() {
	var mux jobs.Mux
	run.Handler{}.Register(&mux) // of a worker, with what run.Config.Start gives
	args, err := json.Marshal(buildjob.Args{
		Context:   "https://example.com/org/app.git#v1.2",
		Platforms: []string{"linux/amd64", "linux/arm64"},
		Spread:    true,
		Output:    convertjob.Output{Target: "registry.example.com/app:1.2"},
	})
	if err != nil {
		log.Fatal(err)
	}
	_, err = mux.Run(context.Background(), buildjob.Kind, args)
	waits, _ := jobs.Awaited(err)
	for _, job := range waits {
		fmt.Println(job.Kind, job.Class.OS, job.Class.Arch)
	}
	// Output:
	// build linux amd64
	// build linux arm64
}
