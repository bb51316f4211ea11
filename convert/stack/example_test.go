package stack_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"

	"github.com/containerd/errdefs"
	"github.com/lithify/lithify/convert/stack"
)

func ExampleOpen() {
	root, err := os.MkdirTemp("", "stack")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(root)
	ctx := context.Background()
	s, err := stack.Open(ctx, root, slog.New(slog.DiscardHandler))
	if err != nil {
		log.Fatal(err)
	}
	_, err = stack.Open(ctx, root, slog.New(slog.DiscardHandler))
	fmt.Println("another one can be opened:", !errdefs.IsUnavailable(err))

	_, release, err := s.Lease(ctx) // the context is for Pull and Mount
	if err != nil {
		log.Fatal(err)
	}
	if err := release(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("closed:", s.Close() == nil)
	// Output:
	// another one can be opened: false
	// closed: true
}
