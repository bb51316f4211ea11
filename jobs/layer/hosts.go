package layer

import (
	"slices"
	"strings"
)

// dockerHub is where references without a host lead, as docker says and as it is asked.
const dockerHub = "index.docker.io"

// Hosts are the registries that the job talks to, so that a pool can bound what they
// have to bear. What they redirect to is not known before.
func (a Args) Hosts() []string { return RegistryHosts(a.Source, a.Ledger) }

// RegistryHosts are the hosts of references to registries, each once, with their
// ports, as they stand in the URLs of requests.
func RegistryHosts(refs ...string) (hosts []string) {
	for _, ref := range refs {
		first, _, more := strings.Cut(strings.TrimPrefix(ref, "docker://"), "/")
		named := more && (strings.ContainsAny(first, ".:") || first == "localhost")
		if !named || first == "docker.io" {
			first = dockerHub
		}
		hosts = append(hosts, first)
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}
