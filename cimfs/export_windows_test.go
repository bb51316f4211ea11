package cimfs

// Begin waits until another CIM may be written, as chains and merges do. End follows.
var Begin, End = begin, end
