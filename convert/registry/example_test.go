package registry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"strings"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
)

// A blob goes first, then the manifest that names it, then the tag, and the tag
// only if nobody else has made it meanwhile.
func ExampleCreate() {
	srv := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	defer srv.Close()
	ctx := context.Background()

	dst, err := registry.Create(strings.TrimPrefix(srv.URL, "http://")+"/team/app:v1", registry.Options{})
	if err != nil {
		log.Fatal(err)
	}
	config := "{}"
	blob := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromString(config), Size: int64(len(config))}
	err = dst.Push(ctx, blob, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(config)), nil })
	if err != nil {
		log.Fatal(err)
	}
	raw := []byte(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":2},"layers":[]}`,
		ocispec.MediaTypeImageManifest, blob.MediaType, blob.Digest))
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if err := dst.PutManifest(ctx, desc, raw); err != nil {
		log.Fatal(err)
	}
	if err := dst.Tag(ctx, desc, raw, ""); err != nil {
		log.Fatal(err)
	}
	now, err := dst.Head(ctx)
	fmt.Println(now.Digest == desc.Digest, err)

	err = dst.Tag(ctx, desc, append(raw, '\n'), "")
	fmt.Println("other bytes:", err != nil)
	fmt.Println("moved:", errors.Is(dst.Tag(ctx, blob, []byte(config), ""), convert.ErrTagMoved))
	// Output:
	// true <nil>
	// other bytes: true
	// moved: true
}
