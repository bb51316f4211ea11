// Package e2e runs lithify as a person would, among the real programs of others:
// distribution's registry, containerd with the erofs and overlayfs snapshotters,
// skopeo, crane and Docker engine's pull code. Run it with -test.root, as root,
// after test/tools/install.sh; what is missing skips the tests that need it.
package e2e
