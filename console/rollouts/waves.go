package rollouts

import (
	"slices"

	"github.com/lithify/lithify/jobs"
)

// Wave are the containers that are begun together.
type Wave struct {
	Number     int // from 1
	Containers []Container
}

// Waves are the containers wave by wave: those that were begun as the rollout's handler has
// done it, by what had failed before each; the others as it will if nothing more fails.
// If it has to give up before, those that are left are the last wave.
func (r Rollout) Waves() (waves []Wave) {
	replicas := r.replicas()
	for begun, failed := 0, 0; begun < len(replicas); {
		n := r.Args.Next(begun, failed)
		if n <= 0 {
			n = len(replicas) - begun
		}
		w := Wave{Number: len(waves) + 1}
		for _, one := range replicas[begun : begun+n] {
			if w.Containers = append(w.Containers, one...); one.broken() {
				failed++
			}
		}
		waves, begun = append(waves, w), begun+n
	}
	return waves
}

// replica is the containers of one.
type replica []Container

func (r Rollout) replicas() []replica {
	all := make([]replica, r.Args.Total())
	for _, c := range r.Containers {
		all[c.Replica] = append(all[c.Replica], c)
	}
	return all
}

// broken reports whether one of its containers could not be restored.
func (r replica) broken() bool {
	return slices.ContainsFunc(r, func(c Container) bool { s := jobs.State(c.State); return s.Ended() && s != jobs.Done })
}

// all reports whether its containers are all in a state.
func (r replica) all(state string) bool {
	return !slices.ContainsFunc(r, func(c Container) bool { return c.State != state })
}

// Progress counts replicas.
type Progress struct {
	Total, Done, Failed, MayFail, Running, Wanted int
}

// Progress is how far it is: a replica is done once all its containers are, has failed if one
// has, is wanted before its wave begins, and is running in between.
func (r Rollout) Progress() Progress {
	p := Progress{Total: r.Args.Total(), MayFail: r.Args.MayFail()}
	for _, one := range r.replicas() {
		switch {
		case one.broken():
			p.Failed++
		case one.all(string(jobs.Done)):
			p.Done++
		case one.all(Wanted):
			p.Wanted++
		default:
			p.Running++
		}
	}
	return p
}
