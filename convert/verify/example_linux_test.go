package verify_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/convert/verify"
)

// It has no Output because it needs root and an image.
func Example() {
	src, err := registry.Open("registry.example.com/debian:12-erofs", registry.Options{})
	if err != nil {
		log.Fatal(err)
	}
	result, err := verify.Image(context.Background(), src, nil, verify.Options{})
	if err != nil {
		log.Fatal(err)
	}
	for _, v := range result.Variants {
		fmt.Println(v.Platform, v.Files, "files")
	}
	if refused, ok := errors.AsType[*convert.RefusedError](result.Err()); ok {
		fmt.Println(refused.Why)
	}
}
