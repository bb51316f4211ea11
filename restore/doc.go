// Package restore reads, writes and restores container checkpoints.
//
// It is empty so far: today the pool converts images and nothing else.
package restore
