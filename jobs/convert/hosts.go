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
