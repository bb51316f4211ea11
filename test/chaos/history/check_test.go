package history_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lithify/lithify/test/chaos/history"
)

// at is so many seconds after a run began.
func at(s float64) time.Time {
	return time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC).Add(time.Duration(s * float64(time.Second)))
}

func version(revision uint64, s float64, record string) history.Version {
	v := history.Version{Revision: revision, Stored: at(s)}
	if err := json.Unmarshal([]byte(record), &v.Record); err != nil {
		panic(err)
	}
	v.ID, v.Generation = "a", max(v.Generation, 1)
	return v
}

func claim(s float64, worker string) history.Write {
	return history.Write{At: at(s), By: worker, Record: history.Record{ID: "a", State: history.Running, Worker: worker}}
}

func line(s float64, e history.Event, worker string) history.Line {
	return history.Line{At: at(s), Event: e, Exec: worker, ID: "a", Worker: worker}
}

// good is a run in which nothing is wrong: w1 is killed with the job, w2 does it.
func good() history.Run {
	done := version(4, 6, `{"state":"done","attempt":2,"poisoned":1,"worker":"w2-1","result":1}`)
	return history.Run{
		Submissions: []history.Submission{{ID: "a", At: at(0), Want: history.Done}},
		Versions: []history.Version{
			version(1, 0, `{"state":"queued"}`),
			version(2, 1, `{"state":"running","attempt":1,"worker":"w1-1"}`),
			version(3, 4, `{"state":"running","attempt":2,"poisoned":1,"worker":"w2-1"}`),
			done,
		},
		Final:  []history.Version{done},
		Writes: []history.Write{claim(1, "w1-1"), claim(4, "w2-1")},
		Diary: []history.Line{line(1.1, history.Began, "w1-1"), line(4.1, history.Began, "w2-1"),
			line(5, history.Effect, "w2-1"), line(5.9, history.Ended, "w2-1")},
		Faults: []history.Fault{{Kind: history.Kill, Victim: "w1", From: at(2), Until: at(3)}},
	}
}

func end(r *history.Run, record string) { r.Final[0] = version(9, 9, record) }

func TestCheck(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(*history.Run)
		want  string // begins one of the complaints; empty: there is none
	}{
		"good":             {func(r *history.Run) {}, ""},
		"a submit is lost": {func(r *history.Run) { r.Submissions[0].ID = "b" }, "b was accepted"},
		"a submit of what was cancelled is lost": {func(r *history.Run) {
			cancel(r)
			r.Submissions[0].Generation = 2
			r.Versions = r.Versions[:3]
			end(r, `{"state":"cancelled","reason":"`+history.Asked+`"}`)
		}, "a was accepted as generation 2"},
		"a job runs for ever": {func(r *history.Run) { r.Versions = r.Versions[:3]; r.Final[0] = r.Versions[2] }, "a is running for ever"},
		"a child hangs": {func(r *history.Run) {
			v := version(9, 9, `{"state":"queued"}`)
			v.ID = "c"
			r.Final = append(r.Final, v)
		}, "c is queued for ever"},
		"a message is left":     {func(r *history.Run) { r.Left = []string{"w.x"} }, "left in WORK: w.x"},
		"a second result":       {func(r *history.Run) { end(r, `{"state":"done","worker":"w1-1","result":2}`) }, "a was done at revision 4 by w2-1, and is done at revision 9 by w1-1"},
		"the same result again": {func(r *history.Run) { end(r, `{"state":"done","worker":"w2-1","result":1}`) }, "a was done at revision 4"},
		"failed for no reason":  {func(r *history.Run) { r.Versions = r.Versions[:3]; end(r, `{"state":"failed"}`) }, "a is failed, want done: for no stated reason"},
		"dead, and nothing to blame": {func(r *history.Run) {
			r.Faults = nil
			r.Versions = r.Versions[:2]
			end(r, `{"state":"dead","failure":{"message":"silent"}}`)
		}, "a is dead, want done: silent"},
		"dead by one kill": {func(r *history.Run) {
			r.Versions = r.Versions[:3]
			end(r, `{"state":"dead","failure":{"message":"silent"}}`)
		}, "a is dead, want done"},
		"dead by two kills": {func(r *history.Run) {
			r.Versions = r.Versions[:3]
			end(r, `{"state":"dead","poisoned":2,"failure":{"message":"silent"}}`)
			kill(r, "w2", 5)
		}, ""},
		"dead by two kills, one after the silence": {func(r *history.Run) {
			r.Versions[3] = version(4, 5, `{"state":"retry","attempt":2,"poisoned":2,"worker":"w2-1"}`)
			end(r, `{"state":"dead","poisoned":2,"failure":{"message":"silent"}}`)
			r.Faults = append(r.Faults, history.Fault{Kind: history.Freeze, Victim: "w2", From: at(4.2), Until: at(6)})
			kill(r, "w2", 6)
		}, ""},
		"dead, and only the next life was killed": {func(r *history.Run) {
			r.Versions = r.Versions[:3]
			end(r, `{"state":"dead","poisoned":2,"failure":{"message":"silent"}}`)
			r.Faults = append(r.Faults, history.Fault{Kind: history.Term, Victim: "w2", From: at(5), Until: at(6)})
			kill(r, "w2", 7)
		}, "a is dead, want done"},
		"done, and had to fail": {func(r *history.Run) { r.Submissions[0].Want = history.Failed }, "a is done, want failed"},
		"a parent of a failed child": {func(r *history.Run) {
			r.Versions = r.Versions[:3]
			end(r, `{"state":"failed","failure":{"message":"child failed: x"}}`)
		}, ""},
		"cancelled": {func(r *history.Run) {
			cancel(r)
			r.Versions = r.Versions[:3]
			end(r, `{"state":"cancelled","reason":"`+history.Asked+`"}`)
		}, ""},
		"cancelled by nobody":      {func(r *history.Run) { r.Versions = r.Versions[:3]; end(r, `{"state":"cancelled","reason":"x"}`) }, "a is cancelled, want done: x"},
		"done after its cancel":    {func(r *history.Run) { cancel(r) }, "a was cancelled"},
		"a new generation is done": {func(r *history.Run) { cancel(r); again(r) }, ""},
		"runs without a claim":     {func(r *history.Run) { r.Writes = r.Writes[:1] }, "a ran 1 times on w2-1, which claimed it 0 times"},
		"runs twice by one claim":  {func(r *history.Run) { r.Diary = append(r.Diary, line(5, history.Began, "w2-1")) }, "a ran 2 times on w2-1, which claimed it 1 times"},
		"claimed and run when done": {func(r *history.Run) {
			r.Writes = append(r.Writes, claim(7, "w3-1"))
			r.Diary = append(r.Diary, line(7.1, history.Began, "w3-1"))
		}, "a began on w3-1"},
		"claimed before it was done": {func(r *history.Run) {
			r.Writes = append(r.Writes, claim(5, "w3-1"))
			r.Diary = append(r.Diary, line(7.1, history.Began, "w3-1"))
		}, ""},
		"an attempt burned":           {func(r *history.Run) { r.Faults = nil }, "a was taken from w1-1"},
		"burned by another's fault":   {func(r *history.Run) { r.Faults[0].Victim = "w2" }, "a was taken from w1-1"},
		"burned by an old fault":      {func(r *history.Run) { r.Faults[0].From, r.Faults[0].Until = at(-20), at(-10) }, "a was taken from w1-1"},
		"burned by a slow disk":       {func(r *history.Run) { r.Faults = nil; r.Writes[0].At = at(0.4) }, ""},
		"burned by a disk as ever":    {func(r *history.Run) { r.Faults = nil; r.Writes[0].At = at(0.6) }, "a was taken from w1-1"},
		"burned by the server's away": {func(r *history.Run) { r.Faults[0].Victim = history.Server }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := good()
			r.Versions, r.Faults = slices.Clone(r.Versions), slices.Clone(r.Faults)
			tc.spoil(&r)
			got := r.Check()
			if tc.want == "" && len(got) > 0 {
				t.Errorf("got %q, want nothing", got)
			}
			if tc.want != "" && !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, tc.want) }) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func kill(r *history.Run, victim string, s float64) {
	r.Faults = append(r.Faults, history.Fault{Kind: history.Kill, Victim: victim, From: at(s), Until: at(s + 1)})
}

func cancel(r *history.Run) {
	r.Cancels = append(r.Cancels, history.Cancel{ID: "a", Generation: 1, At: at(4.5)})
}

// again has the job cancelled in its first generation and done in its second.
func again(r *history.Run) {
	r.Versions[3] = version(4, 5, `{"state":"cancelled","reason":"x","worker":"w2-1"}`)
	r.Final[0] = version(5, 8, `{"state":"done","generation":2,"worker":"w2-1","result":1}`)
}
