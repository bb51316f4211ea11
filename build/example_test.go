package build_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/client"

	"github.com/lithify/lithify/build"
)

// Starts a buildkitd, builds a directory with it and prints what was pushed. It needs root, so
// that it is only compiled here.
func Example() {
	ctx := context.Background()
	d, err := build.StartDaemon(ctx, build.DaemonConfig{Root: "/var/lib/lithify/buildkit"})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Stop()
	built, err := build.Engine{Address: d.Address()}.Build(ctx, build.Request{
		Context:    ".",
		Target:     "release",
		Secrets:    []string{"id=npm,src=.npmrc"},
		Repository: "registry.example.com/app",
	}, func(s *client.SolveStatus) {
		for _, step := range s.Vertexes {
			fmt.Println(step.Name)
		}
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(built.Descriptor.Digest)
}

func ExampleRequest_Validate() {
	r := build.Request{Context: "https://example.com/org/app.git#v1.2:server", Repository: "registry.example.com/app"}
	fmt.Println(r.Validate())
	r.Args = map[string]string{"BUILDKIT_SYNTAX": "example.com/frontend"}
	err := r.Validate()
	fmt.Println(errdefs.IsInvalidArgument(err), err)
	// Output:
	// <nil>
	// true build argument BUILDKIT_SYNTAX: a frontend would be pulled and run; only the one that buildkitd has built in is used: invalid argument
}

// A directory becomes the archive that a worker builds from, without what .dockerignore names.
func ExampleWriteArchive() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for name, content := range map[string]string{
		"Dockerfile": "FROM scratch\nCOPY . /\n", ".dockerignore": "*.log\n.*\n", "app.conf": "x=1\n", "app.log": "...\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			log.Fatal(err)
		}
	}
	var archive bytes.Buffer
	dockerfile, err := build.WriteArchive(context.Background(), build.Request{Context: dir}, &archive)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the Dockerfile is", dockerfile)
	z, err := gzip.NewReader(&archive)
	if err != nil {
		log.Fatal(err)
	}
	for tr := tar.NewReader(z); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(h.Name)
	}
	// Output:
	// the Dockerfile is Dockerfile
	// Dockerfile
	// app.conf
}

func ExampleSecretID() {
	fmt.Println(build.SecretID("type=env,id=npm,src=NPM_TOKEN"))
	_, err := build.SecretID("src=.npmrc")
	fmt.Println(err)
	// Output:
	// npm <nil>
	// secret "src=.npmrc": want id=ID,src=FILE or id=ID,env=NAME: invalid argument
}
