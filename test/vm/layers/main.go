// Command layers makes the layers of the corpus that it is given, where they are not made
// yet: in the machine of test/vm nothing can make them.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/lithify/lithify/test/corpus"
)

func main() {
	for _, name := range os.Args[1:] {
		if _, err := corpus.Open(context.Background(), name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
