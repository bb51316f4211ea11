package classic

// OpenFS opens a CIM of files that are not on the disk.
var OpenFS = open
