package archive

import "cmp"

// Limits bound what an archive may make of this machine. A zero field is its default.
type Limits struct {
	Entries int64 // of the archive, and of the tar of changed files
	Bytes   int64 // of both, decompressed
	Name    int64 // bytes of an entry's name
	JSON    int64 // bytes of each file of metadata
	Ratio   int64 // decompressed bytes for each that came in, beyond the first 64 MiB
}

// DefaultBytes is the default of [Limits.Bytes].
const DefaultBytes = 256 << 30

// The other defaults. CRIU makes some twenty files, and two to five for each process, thread
// and socket; zero pages of memory compress a thousandfold, text of logs a hundredfold.
const (
	defaultEntries = 1 << 18
	defaultName    = 4096
	defaultJSON    = 16 << 20
	defaultRatio   = 2000
	ratioSlack     = 64 << 20
)

func (l Limits) withDefaults() Limits {
	return Limits{
		Entries: cmp.Or(l.Entries, defaultEntries),
		Bytes:   cmp.Or(l.Bytes, DefaultBytes),
		Name:    cmp.Or(l.Name, defaultName),
		JSON:    cmp.Or(l.JSON, defaultJSON),
		Ratio:   cmp.Or(l.Ratio, defaultRatio),
	}
}
