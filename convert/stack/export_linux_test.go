package stack

// Root is the flag -test.root.
var Root = rootFlag
