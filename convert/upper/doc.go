// Package upper writes the tar of a layer out of an overlayfs upper directory: what a
// container has changed, without a look at the layers below it.
//
//	err := upper.Write(ctx, w, "/var/lib/.../snapshots/8/fs", upper.Options{})
//
// overlayfs keeps in the upper directory every file that was made or changed, whole,
// with the directories above it, and marks what was deleted
// (https://docs.kernel.org/filesystems/overlayfs.html, "whiteouts and opaque
// directories"). The tar says the same by the OCI image spec's whiteouts. The same
// directory gives the same bytes each time.
package upper
