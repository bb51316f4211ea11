package archive

import (
	"archive/tar"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Annotations of the index that containerd's client writes (client/container.go, task.go).
const (
	nativeRuntime = "io.containerd.checkpoint.runtime"
	nativeImage   = "image.name"
)

// Media types of its entries (containerd core/images/mediatypes.go).
const (
	nativeImages = "application/vnd.containerd.container.criu.checkpoint.criu.tar"
	nativeSpec   = "application/vnd.containerd.container.checkpoint.config.v1+proto"
	layerTypes   = "application/vnd.oci.image.layer.v1.tar"
	dockerLayer  = "application/vnd.docker.image.rootfs.diff.tar"
)

// baseTypes are those of an image that was put in.
var baseTypes = []string{
	ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex,
	"application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.distribution.manifest.list.v2+json",
}

// Native is what containerd's own client makes of a container (ctr containers checkpoint): an
// index in containerd's content store whose entries are no manifests, so that no
// registry takes it.
type Native struct {
	Index ocispec.Index
	// Fetch opens a blob of the index.
	Fetch func(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
}

// Read unpacks it into dir as [Read] does an archive, with the same limits and refusals.
func (n Native) Read(ctx context.Context, dir string, limits Limits) (_ *Checkpoint, err error) {
	root, undo, err := openEmpty(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	defer func() {
		if err != nil {
			err = errors.Join(err, undo())
		}
	}()
	r := nativeReader{Native: n, root: root, limits: limits.withDefaults(), seen: map[string]bool{}}
	for _, desc := range n.Index.Manifests {
		if err := r.entry(ctx, desc); err != nil {
			return nil, err
		}
	}
	if err := r.config(); err != nil {
		return nil, err
	}
	return load(root, r.limits)
}

type nativeReader struct {
	Native
	root   *os.Root
	limits Limits
	seen   map[string]bool
	base   ocispec.Descriptor // the image, if it was put in
}

func (r *nativeReader) entry(ctx context.Context, desc ocispec.Descriptor) error {
	switch {
	case desc.MediaType == nativeImages:
		return r.blob(ctx, desc, r.images)
	case desc.MediaType == nativeSpec:
		return r.blob(ctx, desc, r.spec)
	case strings.HasPrefix(desc.MediaType, layerTypes), strings.HasPrefix(desc.MediaType, dockerLayer):
		return r.blob(ctx, desc, func(_ context.Context, in io.Reader) error { return r.create(ChangesFile, in, r.limits.Bytes) })
	case slices.Contains(baseTypes, desc.MediaType):
		r.base = desc
	}
	return nil
}

func (r *nativeReader) blob(ctx context.Context, desc ocispec.Descriptor, f func(context.Context, io.Reader) error) (err error) {
	in, err := r.Fetch(ctx, desc)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	if err := f(ctx, in); err != nil {
		return fmt.Errorf("%s: %w", desc.Digest, err)
	}
	return nil
}

// images unpacks the tar of CRIU's directory, whose names are those of the files in it.
func (r *nativeReader) images(ctx context.Context, in io.Reader) error {
	s, err := newStream(ctx, in, r.limits)
	if err != nil {
		return err
	}
	defer s.close()
	u := unpacker{stream: s, tar: tar.NewReader(s), root: r.root, seen: r.seen}
	return u.all(func(hdr *tar.Header) { hdr.Name = ImagesDir + "/" + strings.TrimPrefix(hdr.Name, "./") })
}

// spec takes it out of the protobuf Any that it is in.
func (r *nativeReader) spec(_ context.Context, in io.Reader) error {
	raw, err := io.ReadAll(io.LimitReader(in, r.limits.JSON+1))
	if err != nil {
		return err
	}
	if int64(len(raw)) > r.limits.JSON {
		return &LimitError{specFile, "bytes of metadata", r.limits.JSON}
	}
	any, err := parse(raw)
	if err == nil {
		err = any.required(2)
	}
	if err != nil {
		return &EntryError{specFile, "it is no message with a spec; make the checkpoint anew", err}
	}
	return r.create(specFile, strings.NewReader(string(any[2][0].bytes)), r.limits.JSON)
}

func (r *nativeReader) create(name string, in io.Reader, most int64) error {
	f, err := r.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return refused(name, "the checkpoint has two of it; make it anew")
	}
	if err != nil {
		return err
	}
	n, err := io.Copy(f, io.LimitReader(in, most+1))
	if err == nil && n > most {
		err = &LimitError{name, "bytes", most}
	}
	return errors.Join(err, f.Close())
}

// config writes what an archive would say. The index tells neither which container it is of
// nor when it was made; the spec and CRIU's last file do.
func (r *nativeReader) config() error {
	name := cmp.Or(r.Index.Annotations[ocispec.AnnotationRefName], r.Index.Annotations[nativeImage])
	c := config{RootfsImage: name, RootfsImageName: name, Runtime: cmp.Or(r.Index.Annotations[nativeRuntime], shim)}
	var err error
	if c.ID, err = r.id(); err != nil {
		return err
	}
	c.Name = c.ID
	if info, err := r.root.Stat(path.Join(ImagesDir, inventoryFile)); err == nil {
		c.Checkpointed = info.ModTime().UTC()
	}
	if r.base.Digest != "" && repository(name) != "" {
		c.RootfsImageRef = pinned(Base{Name: name, Digest: r.base.Digest})
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return r.create(configFile, strings.NewReader(string(raw)), r.limits.JSON)
}

// id is how all clients of containerd call a container's cgroup: /NAMESPACE/ID, or with
// systemd SLICE:PREFIX:ID.
func (r *nativeReader) id() (string, error) {
	l := loader{r.root, r.limits}
	var spec struct{ Linux struct{ CgroupsPath string } }
	if err := l.json(specFile, &spec); err != nil {
		return "", l.needed(specFile, err)
	}
	cgroup := spec.Linux.CgroupsPath
	if id := cgroup[strings.LastIndexAny(cgroup, "/:")+1:]; id != "" {
		return id, nil
	}
	return "container", nil
}
