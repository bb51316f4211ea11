// Package jobs is the vocabulary of the pool: what a job is, which states it
// goes through, and what a handler may say about its work and its errors.
// It does no I/O. Package queue stores jobs and hands them out.
//
// A kind of job is a type that implements [Args]. The handler of a kind is a
// plain function, registered once in a [Mux]:
//
//	jobs.Handle(mux, func(ctx context.Context, a convert.Args) (any, error) { ... })
//
// A handler reports with [Alive], [Quiet] and [Event], and classifies its
// errors with [Permanent], [RetryAfter] and [Resource]. All of them do nothing
// harmful outside a worker, so the same function serves a command line.
//
// A job's life is a [Record], changed only by [Next]. Next is pure: storing the
// result by compare-and-set is the queue's part.
package jobs
