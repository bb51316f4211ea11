//go:build !linux

package preflight

// here is nothing: what else lithify can do needs Linux.
var here []probe
