// Package cimfs makes block CIMs of the layers of Windows images: what an EROFS image is to
// Linux, a read-only file system in one file, that a node mounts and does not unpack.
//
// On every system it says what a layer becomes: [Plan] reads a layer's tar and tells each
// call of the CIM API that makes it, in the order in which Microsoft's hcsshim makes them, and
// what of it no writer takes. On Windows it has hcsshim write it.
//
// The format of block CIMs is not public, and Microsoft's writer runs on Windows only. None of
// this project's tests has made or mounted a real one: they run hcsshim's writer under Wine, on
// a stand-in for the library that writes the bytes, whose files are no CIMs and which
// nothing here publishes.
package cimfs
