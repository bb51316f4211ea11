// Package corpus makes the layers and images that the tests and the benchmark
// convert: real trees from what a fresh machine has (Debian's packages, npm's,
// the Go toolchain) and one layer with every odd entry a tar may hold.
//
//	l, err := corpus.Open(ctx, "debian")
//	f, err := os.Open(l.Path(corpus.Gzip))
//
// Layers are made once and kept in $LITHIFY_TEST_CORPUS, /var/lib/lithify-test-corpus
// if that is not set, named by what they are made from.
package corpus
