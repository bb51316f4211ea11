package preflight_test

import (
	"context"
	"fmt"
	"log"

	"github.com/lithify/lithify/convert/preflight"
)

func Example() {
	facts := preflight.Check(context.Background(), preflight.Options{})
	if err := preflight.Ready(facts, "convert"); err != nil {
		log.Fatal(err)
	}
	fmt.Println("images can be converted here")
	// Output: images can be converted here
}
