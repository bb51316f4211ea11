//go:build !linux && !windows

package preflight

const privileged = "run it as root"

// here is nothing: what else lithify can do needs Linux or Windows.
var here []probe
