// Package classic reads classic CIMs, the read-only file systems of Windows in which containerd
// and hcsshim keep image layers: a file NAME.cim, and beside it files region_GUID_N, which hold
// everything else and may belong to several CIMs. [Open] is where to start.
//
// The format has no public description. What is read here is what Microsoft's own reader read,
// which was part of hcsshim for a while: internal/cimfs of its commit e86001a65 of March 2021, under
// the MIT licence. That is version 2; version 3 is refused, as what it changes is not known. Block
// CIMs, which are one file or disk, are another format, and not public at all.
//
// This package has never been tried on a CIM that Windows made. Its tests write CIMs after the
// same source, and Microsoft's reader, compiled for Linux by hand, gave the same of them. Doubtful
// above all are alternate data streams, which that reader could not list, and PE images.
//
// Nothing a CIM says is trusted: offsets and lengths are checked before they are used, names are
// such that Windows could have, directories form a tree, no path is longer than Windows lets
// one be. What does not hold together is an errdefs.ErrInvalidArgument.
package classic
