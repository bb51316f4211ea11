package jobs

import (
	"cmp"
	"context"
	"fmt"
	"time"
)

// Priority is how urgent a job is. Each is a line of its own in front of the workers.
type Priority string

const (
	Interactive Priority = "interactive" // somebody waits for it: before all that is bulk
	Bulk        Priority = "bulk"        // the default
)

// Priorities are all of them, the more urgent first.
var Priorities = []Priority{Interactive, Bulk}

// ParsePriority reads a priority; none is [Bulk].
func ParsePriority(s string) (Priority, error) {
	switch p := Priority(s); p {
	case "":
		return Bulk, nil
	case Interactive, Bulk:
		return p, nil
	}
	return "", fmt.Errorf("priority %q is neither %s nor %s", s, Interactive, Bulk)
}

// DefaultTenant is whose a job is that names nobody.
const DefaultTenant = "default"

// CheckTenant reports whether a name can be a tenant's.
func CheckTenant(name string) error {
	if !isName(name) {
		return fmt.Errorf("tenant %q: want 1 to %d letters, digits, - and _", name, maxToken)
	}
	return nil
}

type tenantKey struct{}

// WithTenant makes name that of the tenant whose job is run under the returned context.
func WithTenant(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, tenantKey{}, name)
}

// TenantOf is whose job is run under ctx: who may have what done on a machine goes by it.
func TenantOf(ctx context.Context) string {
	name, _ := ctx.Value(tenantKey{}).(string)
	return cmp.Or(name, DefaultTenant)
}

// Hosted is implemented by args of kinds that burden registries: the pool bounds how
// many jobs do so at a time.
type Hosted interface {
	Args
	Hosts() []string // host[:port], those known without I/O
}

// Referring is implemented by args of kinds that somebody may ask for from outside: a
// rule says which repositories he may have read and written by the pool, whose
// credentials are more than his.
type Referring interface {
	Args
	// References are those of images, files and repositories, as the args have them: all
	// that the job reads and all that it writes.
	References() (reads, writes []string)
}

// Join makes a job that has not ended matter to somebody else: it becomes as urgent
// as they are, and theirs if they ask for it directly. Nobody may change the record
// of a running job but its worker, so there a Join has no edge; nor has one that
// changes nothing.
type Join struct {
	Priority Priority
	Direct   bool
	At       time.Time
}

func (e Join) next(r Record) (Record, bool) {
	raises := e.Priority == Interactive && r.Priority != Interactive
	ok := (r.State == Queued || r.State == Retry || r.State == Waiting) && (raises || e.Direct && !r.Direct)
	if raises {
		r.Priority = Interactive
	}
	r.Direct = r.Direct || e.Direct
	return r, ok
}

func (e Join) at() time.Time { return e.At }
