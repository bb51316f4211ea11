// Command memory has some, and changes a little of it all the time.
package main

import (
	"math/rand"
	"os"
	"time"
)

func main() {
	b := make([]byte, 48<<20)
	rand.New(rand.NewSource(1)).Read(b[:32<<20]) // the rest stays zeros, that are touched
	for i := 32 << 20; i < len(b); i += 4096 {
		b[i] = 0
	}
	os.Stdout.Close() // ready
	for i := 0; ; i++ {
		b[i%512]++
		time.Sleep(time.Millisecond)
	}
}
