// Command ctrdconvert converts one layer blob with containerd's own EROFS
// converter and its local content store: what `make bench` compares with.
//
//	ctrdconvert STORE MEDIATYPE DIGEST SIZE [MKFS OPTION]...
package main

import (
	"context"
	_ "crypto/sha256" // blobs are named by it
	"fmt"
	"maps"
	"os"
	"strconv"

	"github.com/containerd/containerd/v2/core/images/converter/erofs"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ctrdconvert:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 4 {
		return fmt.Errorf("usage: ctrdconvert STORE MEDIATYPE DIGEST SIZE [MKFS OPTION]")
	}
	size, err := strconv.ParseInt(args[3], 10, 64)
	if err != nil {
		return err
	}
	desc := ocispec.Descriptor{MediaType: args[1], Digest: digest.Digest(args[2]), Size: size}
	return convert(args[0], desc, args[4:])
}

func convert(root string, desc ocispec.Descriptor, mkfs []string) error {
	ctx := namespaces.WithNamespace(context.Background(), "bench")
	store, err := local.NewLabeledStore(root, labels{})
	if err != nil {
		return err
	}
	got, err := erofs.LayerConvertFunc(erofs.WithMkfsOptions(mkfs))(ctx, store, desc)
	if err != nil {
		return err
	}
	fmt.Println(got.Digest, got.Size)
	return nil
}

// labels keeps the store's labels in memory: the daemon keeps them in bolt.
type labels map[digest.Digest]map[string]string

func (l labels) Get(d digest.Digest) (map[string]string, error) { return maps.Clone(l[d]), nil }

func (l labels) Set(d digest.Digest, set map[string]string) error {
	l[d] = set
	return nil
}

func (l labels) Update(d digest.Digest, update map[string]string) (map[string]string, error) {
	set := maps.Clone(l[d])
	if set == nil {
		set = map[string]string{}
	}
	maps.Copy(set, update)
	l[d] = set
	return set, nil
}
