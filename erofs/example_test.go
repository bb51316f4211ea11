package erofs_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log"
	"os"

	"github.com/lithify/lithify/erofs"
)

// exampleTar stands for a layer's decompressed tar.
func exampleTar() *bytes.Buffer {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range []struct{ name, body string }{
		{"etc/hostname", "rock\n"},
		{"etc/.wh.motd", ""},
	} {
		if err := w.WriteHeader(&tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.body))}); err != nil {
			log.Fatal(err)
		}
		if _, err := w.Write([]byte(e.body)); err != nil {
			log.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	return &b
}

func ExampleConvert() {
	f, err := os.CreateTemp("", "layer-*.erofs")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()

	layer, err := erofs.Convert(context.Background(), f, exampleTar(), erofs.Options{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(layer.Digest == layer.ImageDigest, layer.Size, layer.UUID)
	fmt.Println("not listed:", layer.Needs.Dirs)

	image, err := erofs.Open(f)
	if err != nil {
		log.Fatal(err)
	}
	name, err := fs.ReadFile(image, "etc/hostname")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%q\n", name)
	motd, err := image.Lstat("etc/motd")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("whiteout:", erofs.IsWhiteout(motd))
	// Output:
	// true 12288 143cf11c-61c0-518e-ad86-0240084454a1
	// not listed: [. etc]
	// "rock\n"
	// whiteout: true
}

func ExampleDialect_Descriptor() {
	layer := &erofs.Layer{Profile: erofs.ProfileZstd, Digest: "sha256:b10b", Size: 4096, ImageDigest: "sha256:d1ff"}
	fmt.Println(erofs.DialectLegacy.Descriptor(layer, false).MediaType)
	spec := erofs.DialectSpec.Descriptor(layer, false)
	fmt.Println(spec.MediaType, spec.Annotations[erofs.AnnotationRole], spec.Annotations[erofs.AnnotationUncompressedDigest])
	// Output:
	// application/vnd.erofs.layer.v1+zstd
	// application/vnd.erofs+zstd overlay-lower sha256:d1ff
}
