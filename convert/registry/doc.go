// Package registry is where images come from and go to: repositories of an OCI
// or Docker registry, OCI layouts on disk, and the archives of docker save and
// skopeo.
//
//	src, err := registry.Open("docker.io/library/debian:12", registry.Options{})
//	dst, err := registry.Create("oci:/tmp/debian:12-erofs", registry.Options{})
//
// Both ends know nothing of EROFS. They move bytes and leave the check of digest
// and size to their caller, but they never hand out more than the descriptor
// announces plus one byte, and never read a manifest over 4 MiB.
//
// # References
//
//	host/repo:tag, host/repo@sha256:...   a registry; docker:// in front is allowed
//	oci:DIR[:TAG][@sha256:...]            an OCI layout
//	oci-archive:FILE[:TAG][@sha256:...]   a tar that holds an OCI layout (source only)
//	docker-archive:FILE[:REF]             what docker save wrote (source only)
//
// The path ends at the first colon (after a drive letter on Windows), so TAG and
// REF may hold colons. Without a tag a layout or archive must hold one image; a
// [Layout] written without a tag gets an entry without a name.
//
// # Errors
//
// What a registry refuses comes back as an [*Error]. All errors of this package
// carry a kind of github.com/containerd/errdefs to branch on: ErrNotFound (also
// convert.ErrNotFound), ErrUnauthenticated, ErrPermissionDenied,
// ErrInvalidArgument, ErrNotImplemented, ErrOutOfRange, ErrDataLoss, and
// ErrUnavailable for what another attempt may mend. No error and no span holds a
// credential, a URL's userinfo or the value of a signed query.
package registry
