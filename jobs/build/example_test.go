package build_test

import (
	"fmt"
	"log"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/jobs/build"
	"github.com/lithify/lithify/jobs/convert"
)

// A job says what to build and names secrets by their IDs. Of a cache in files of its own no
// worker wants to hear.
func Example() {
	args := build.Args{
		Context: "https://example.com/org/app.git#v1.2",
		Secrets: []string{"npm"},
		Attest:  []string{"type=provenance,mode=max"},
		Output:  convert.Output{Target: "registry.example.com/app:1.2", Profile: "erofs+zstd"},
	}
	job, err := jobs.New(args, jobs.Options{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(job.Kind, job.Class.Kind, args)
	args.CacheTo = []string{"type=local,dest=/var/cache"}
	fmt.Println(args.CheckPool())
	// Output:
	// build build build https://example.com/org/app.git#v1.2 as registry.example.com/app:1.2
	// cache "type=local,dest=/var/cache": in a pool the type is registry or inline
}
