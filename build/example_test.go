package build_test

import (
	"context"
	"fmt"
	"log"

	"github.com/moby/buildkit/client"

	"github.com/lithify/lithify/build"
)

// Starts a buildkitd, builds a directory with it and prints what was pushed. It needs root, so
// that it is only compiled here.
func Example() {
	ctx := context.Background()
	d, err := build.StartDaemon(ctx, build.DaemonConfig{Root: "/var/lib/lithify/buildkit"})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Stop()
	built, err := build.Engine{Address: d.Address()}.Build(ctx, build.Request{
		Context:    ".",
		Target:     "release",
		Secrets:    []string{"id=npm,src=.npmrc"},
		Repository: "registry.example.com/app",
	}, func(s *client.SolveStatus) {
		for _, step := range s.Vertexes {
			fmt.Println(step.Name)
		}
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(built.Descriptor.Digest)
}
