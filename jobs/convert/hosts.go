package convert

import (
	"slices"

	"github.com/lithify/lithify/jobs/layer"
)

// Hosts are the registries that the job talks to, so that a pool can bound what they
// have to bear. The ledger is in the target's.
func (a Args) Hosts() []string {
	return layer.RegistryHosts(slices.DeleteFunc([]string{a.Source, a.Target}, IsFile)...)
}

// References implements jobs.Referring.
func (a Args) References() (reads, writes []string) { return []string{a.Source}, a.Output.Writes() }

// Writes are the references that a job with this output writes. The pool's own ledger is
// none of them: only those who have its key enter something.
func (o Output) Writes() []string {
	writes := []string{o.Target}
	if o.LedgerRepo != "" && o.LedgerRepo != DefaultLedgerRepo && !IsFile(o.Target) {
		writes = append(writes, layer.RegistryHosts(o.Target)[0]+"/"+o.LedgerRepo)
	}
	return writes
}
