//go:build emulated

package cimfs

// allowEmulated is of the programs that this project's tests run under Wine.
const allowEmulated = true
