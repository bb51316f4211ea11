// Package build makes images from Dockerfiles with BuildKit as the engine.
//
// An [Engine] is a buildkitd that listens somewhere; a [Daemon] is one of our own, started
// as a child process. Engine.Build takes a [Request], pushes what was built to a repository
// by its digest and returns the descriptor. It moves no tag: who asked converts what was
// built and moves the tag once, when all of it is there.
//
// A build runs what the Dockerfile says as root in a container of the machine of buildkitd.
// It gets no entitlements, so no privileged steps. A daemon of our own gives steps the network
// of the machine, all that listens on its loopback among it, unless [Engine].Network or the
// request says none. The Dockerfile is read by the frontend that is built into buildkitd,
// never by one that a "# syntax=" line would have pulled and run.
package build
