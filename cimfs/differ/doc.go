// Package differ places block CIMs of registries for containerd's snapshotter blockcim: a node
// pulls them and unpacks nothing. It is a diff service, which containerd asks as a proxy plugin:
//
//	err := differ.Run(ctx, listener, &differ.Applier{Content: client.ContentStore(), Log: log})
//
// Layers of other media types are not implemented here, so that containerd asks its next differ,
// and so is comparing. docs/blockcim-node.md says how a node is set up.
//
// It runs on every system, as its tests do; a snapshotter that has its mounts is on Windows only.
package differ
