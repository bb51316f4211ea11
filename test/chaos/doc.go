// Package chaos breaks a pool of real processes and looks whether the queue keeps
// its promises: a nats-server, schedulers and workers, each behind a proxy that can
// delay, cut and deafen, are killed, frozen and stopped by a list of faults that
// follows from one number, and at every message of a job's life. Handlers keep a diary,
// an observer follows STATE from outside, the proxies note who wrote what; package
// history judges it all. Root can give the server a disk of its own, whose power fails
// or that is full.
//
//	go test ./test/chaos -short                                        # a short seeded run
//	go test ./test/chaos -seed 7 -faults 1000 -args -test.root         # make chaos
//
// A run that fails prints its seed and faults, and leaves its logs where it says.
package chaos
