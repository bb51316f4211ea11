package queue

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/lithify/lithify/jobs"
)

// Import is a subject of the account that holds the streams which another account
// may use.
type Import struct {
	Subject string // there
	Local   string // in the other account
	Stream  bool   // hears what is published there; else asks, and is answered
	Many    bool   // gets more than one answer
}

// localPrefix stands in a worker's account for "$JS.": a client of an account whose
// imports are under $JS.API itself was seen to ask its own account's JetStream,
// which it does not have. It also keeps what is heard apart from what is written.
const localPrefix = "POOL."

// Access is all that workers of an account of their own need of the pool, and all
// they get: to pull and ack messages of their classes, to read and write the records
// of their kinds and read what those are to do, to submit jobs of the kinds that
// theirs wait for, to write history and logs, and to announce themselves.
//
// All but one are service imports: what the server answers goes back to who asked,
// in its account, whatever reply subject the request named.
func Access(account string, classes []jobs.Class, submits []string) []Import {
	all := map[Import]bool{
		{Subject: nodePrefix + account + ".*"}: true,
		{Subject: leaseSubject}:                true, // turns at a registry,
		{Subject: shutSubject, Stream: true}:   true, // and that it wants none
	}
	add := func(subject string) { all[Import{Subject: subject}] = true }
	kinds := map[string]bool{}
	for _, c := range classes {
		kinds[c.Kind] = true
		for _, l := range Lines(c) {
			name := streamWork + "." + l.Consumer()
			add("$JS.API.CONSUMER.INFO." + name)
			all[Import{Subject: "$JS.API.CONSUMER.MSG.NEXT." + name, Many: true}] = true // messages, and how the pull ended
			add("$JS.ACK." + name + ".>")
		}
	}
	for kind := range kinds {
		// So that a worker hears at once that its job was cancelled.
		all[Import{Subject: "st." + kind + ".*.run", Stream: true}] = true
	}
	for _, kind := range submits {
		kinds[kind] = true
		add("st." + kind + ".*.spec")
	}
	for kind := range kinds {
		add("$JS.API.DIRECT.GET." + streamState + ".st." + kind + ".*.*")
		add("st." + kind + ".*.run")
		add("ev." + kind + ".*")
		add("log." + kind + ".*")
	}
	list := slices.SortedFunc(maps.Keys(all), func(a, b Import) int {
		return cmp.Or(cmp.Compare(a.Subject, b.Subject), cmp.Compare(strconv.FormatBool(a.Stream), strconv.FormatBool(b.Stream)))
	})
	for i, m := range list {
		list[i].Local = m.Subject
		if api, ok := strings.CutPrefix(m.Subject, "$JS.API."); ok {
			list[i].Local = localPrefix + "API." + api
		}
		if m.Stream {
			list[i].Local = localPrefix + m.Subject
		}
	}
	return list
}
