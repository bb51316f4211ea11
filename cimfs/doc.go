// Package cimfs makes block CIMs, the Windows counterpart of an EROFS layer.
//
// It is empty so far: package convert passes Windows manifests through untouched.
package cimfs
