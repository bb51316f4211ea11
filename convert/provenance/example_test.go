package provenance_test

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log"

	"github.com/lithify/lithify/convert/provenance"
	"github.com/lithify/lithify/convert/registry"
)

// Says who has built an image. It needs the image, so that it is only compiled here.
func ExampleVerify() {
	block, _ := pem.Decode([]byte("-----BEGIN PUBLIC KEY-----\n..."))
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		log.Fatal(err)
	}
	src, err := registry.Open("registry.example.com/app:1", registry.Options{})
	if err != nil {
		log.Fatal(err)
	}
	found, err := provenance.Verify(context.Background(), src, []ed25519.PublicKey{key.(ed25519.PublicKey)})
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range found {
		fmt.Println(s.Platform, s.Image, s.Builder)
	}
}
