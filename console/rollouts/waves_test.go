package rollouts_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/lithify/lithify/console/rollouts"
	"github.com/lithify/lithify/jobs"
	restorejob "github.com/lithify/lithify/jobs/restore"
	rolloutjob "github.com/lithify/lithify/jobs/rollout"
)

// Waves are those that the handler makes, by what had failed before each.
func TestWaves(t *testing.T) {
	set := []rolloutjob.Member{{Container: "db", Checkpoint: digest.FromString("db")}, {Container: "fe", Checkpoint: digest.FromString("fe")}}
	for _, tc := range []struct {
		name   string
		args   rolloutjob.Args
		states string // of the containers, a letter each: done, failed, running, queued, wanted
		waves  string
		want   rollouts.Progress
	}{
		{"none has begun", rolloutjob.Args{Replicas: 3}, "www", "www", rollouts.Progress{Total: 3, Wanted: 3}},
		{"canary", rolloutjob.Args{Replicas: 5, Canary: 1, Wave: 2, MaxFailed: 1}, "ddfrw", "d df rw", rollouts.Progress{Total: 5, Done: 2, Failed: 1, MayFail: 1, Running: 1, Wanted: 1}},
		{"the more fail, the smaller they are", rolloutjob.Args{Replicas: 6, MaxUnavailable: 3, MaxFailed: 2}, "dfddrw", "dfd dr w", rollouts.Progress{Total: 6, Done: 3, Failed: 1, MayFail: 2, Running: 1, Wanted: 1}},
		{"given up", rolloutjob.Args{Replicas: 4, MaxUnavailable: 2, MaxFailed: 1}, "ffww", "ff ww", rollouts.Progress{Total: 4, Failed: 2, MayFail: 1, Wanted: 2}},
		{"sets", rolloutjob.Args{Replicas: 3, Wave: 1, MinHealthy: 2, Set: set}, "ddfdqw", "dd fd qw", rollouts.Progress{Total: 3, Done: 1, Failed: 1, MayFail: 1, Running: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.args.Nodes = []string{"a", "b"}
			tc.args.Restore = restorejob.Args{Source: "r.example.com/web:saved", Name: "web"}
			if err := tc.args.Validate(); err != nil {
				t.Fatal(err)
			}
			r := rollouts.Rollout{Args: tc.args}
			n := 0
			for i, replica := range tc.args.All() {
				for _, c := range replica.Containers {
					r.Containers = append(r.Containers, rollouts.Container{Name: c.Name, State: states[tc.states[n]], Replica: i})
					n++
				}
			}
			var got []string
			for i, w := range r.Waves() {
				if w.Number != i+1 {
					t.Errorf("wave %d has number %d", i+1, w.Number)
				}
				word := ""
				for _, c := range w.Containers {
					word += c.State[:1]
				}
				got = append(got, word)
			}
			if s := strings.Join(got, " "); s != tc.waves {
				t.Errorf("waves %q, want %q", s, tc.waves)
			}
			if p := r.Progress(); p != tc.want {
				t.Errorf("progress %s, want %s", fmt.Sprintf("%+v", p), fmt.Sprintf("%+v", tc.want))
			}
		})
	}
}

var states = map[byte]string{'d': string(jobs.Done), 'f': string(jobs.Failed), 'r': string(jobs.Running), 'q': string(jobs.Queued), 'w': rollouts.Wanted}
