//go:build !emulated

package cimfs

// allowEmulated is false in every program that users have.
const allowEmulated = false
