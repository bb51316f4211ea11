// Command lithify converts container images to EROFS, here or in a pool of
// workers.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/lithify/lithify/cimfs"
	"github.com/lithify/lithify/convert/stack"
)

func main() {
	stack.RunGuard()
	cimfs.RunWriter()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(execute(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
