package cimfs

// WordOf is of the process that writes a CIM, which is on Windows only.
var WordOf = wordOf
