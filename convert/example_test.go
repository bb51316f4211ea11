package convert_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
)

func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := writeImage(filepath.Join(dir, "src")); err != nil {
		log.Fatal(err)
	}

	src, err := registry.Open("oci:"+filepath.Join(dir, "src"), registry.Options{})
	if err != nil {
		log.Fatal(err)
	}
	dst, err := registry.Create("oci:"+filepath.Join(dir, "dst")+":1-erofs", registry.Options{})
	if err != nil {
		log.Fatal(err)
	}
	result, err := convert.Image(context.Background(), src, dst, convert.Options{})
	if err != nil {
		log.Fatal(err)
	}
	for _, v := range result.Variants {
		fmt.Println(v.Platform, "with", len(v.Layers), "EROFS layer")
	}
	// Output: linux(+erofs)/amd64 with 1 EROFS layer
}

// writeImage puts an image of one random layer into an OCI layout.
func writeImage(dir string) error {
	image, err := random.Image(1024, 1)
	if err != nil {
		return err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return err
	}
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	return path.AppendImage(image)
}
