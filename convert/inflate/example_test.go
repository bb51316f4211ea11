package inflate_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/lithify/lithify/convert/inflate"
)

func Example() {
	var blob bytes.Buffer
	w := gzip.NewWriter(&blob)
	fmt.Fprintln(w, "a layer's tar")
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}

	z, err := inflate.NewReader(&blob)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.Copy(os.Stdout, z); err != nil { // by z.WriteTo
		log.Fatal(err)
	}
	// Output: a layer's tar
}
