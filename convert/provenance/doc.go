// Package provenance signs what BuildKit says of how an image was built, and verifies it.
//
// BuildKit keeps an in-toto statement with an SLSA predicate in the index of what it built,
// unsigned. [Sign] wraps it in a DSSE envelope and attaches that to the image that the statement
// is about: a manifest of [ArtifactType] with the image as its subject and the envelope as its
// one layer, found by the referrers API or its fallback tag. The image and not the index is
// what it is attached to, because it is the statement's subject, and goes unchanged from one
// index into the next.
package provenance
