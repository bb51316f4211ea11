// Package queue keeps jobs in NATS JetStream: submit, look, watch, cancel, and
// the one way in which a job's record changes.
//
// [Connect] gives a [Client]. A program that only submits needs no more:
//
//	c, err := queue.Connect(ctx, queue.Config{})  // finds "lithify serve" by its context file
//	st, err := c.Submit(ctx, job)
//	st, err = c.Wait(ctx, st.ID)
//
// The services are in queue/scheduler and queue/worker, the embedded server in
// queue/natsd.
//
// # Streams
//
//	STATE   st.<scope>.<key>.spec   the jobs.Job, as submitted
//	        st.<scope>.<key>.run    the jobs.Record: state, claim and result
//	WORK    w.<priority>.<kind>.<os>.<arch>.<feature>.<id>   admitted jobs, one message each
//	EVENTS  ev.<scope>.<key>        history, for people; nothing is decided from it
//	LOGS    log.<scope>.<key>       what jobs print while they run
//	DLQ     dlq.<scope>.<key>       jobs that used up their attempts
//	SCHED   sched.cron.<name>       timetables; fire.cron.<name> is the last fire of one
//	controls (KV) all               what people decided: tenants, registries, pauses
//	nodes   (KV) <worker>           who works here; expires when not renewed
//
// Beside them, unstored: pool.explain and pool.lease ask the scheduler that leads,
// pool.shut tells workers to leave a host alone.
//
// STATE is the truth. Each change of a record is a compare-and-set on the last
// sequence of its one subject, so of two claims, or of a claim and a result,
// the server takes exactly one. The sequence of a claim is its fencing token.
//
// [Client.Export] and [Client.Import] move all this, but for logs, to another server.
//
// # What is promised
//
// A submission that returned survives the server's death. A job runs at least
// once; at most one result is committed. Effects outside the queue are not
// fenced by it: handlers are idempotent.
package queue
