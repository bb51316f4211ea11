package jobs

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// ID names a job: "scope-key", for example "convert-06bqf2gk5nv8t9h4c1r0d7s3me".
// The scope is the job's kind. Both parts hold only a to z and 0 to 9, so an ID
// is safe in a subject, a file name, a URL and a label.
type ID string

var idEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// uniqueID is a new ID in scope; IDs sort by the time they were made.
func uniqueID(scope string) ID {
	u := uuid.Must(uuid.NewV7()) // fails only without a random source
	return ID(scope + "-" + idEncoding.EncodeToString(u[:]))
}

// keyedID is the ID of every job of this kind submitted under one idempotency key.
func keyedID(scope, key string) ID {
	sum := sha256.Sum256([]byte("key\x00" + scope + "\x00" + key))
	return ID(scope + "-" + idEncoding.EncodeToString(sum[:16]))
}

func argsDigest(kind string, args []byte) string {
	sum := sha256.Sum256(append([]byte("args\x00"+kind+"\x00"), args...))
	return hex.EncodeToString(sum[:])
}

// ParseID checks the form of s.
func ParseID(s string) (ID, error) {
	scope, key, ok := strings.Cut(s, "-")
	if !ok || !isToken(scope) || !isToken(key) {
		return "", fmt.Errorf("job id %q: want kind-key of a-z and 0-9", s)
	}
	return ID(s), nil
}

type idKey struct{}

// WithID makes id that of the job that is run under the returned context.
func WithID(ctx context.Context, id ID) context.Context {
	return context.WithValue(ctx, idKey{}, id)
}

// IDOf is the job that is run under ctx; "" if there is none. What a handler makes on its
// machine carries it, so that another attempt finds what one has left.
func IDOf(ctx context.Context) ID {
	id, _ := ctx.Value(idKey{}).(ID)
	return id
}

// Scope is the part of a valid ID before the dash.
func (id ID) Scope() string { s, _, _ := strings.Cut(string(id), "-"); return s }

// Key is the part of a valid ID after the dash.
func (id ID) Key() string { _, k, _ := strings.Cut(string(id), "-"); return k }

// maxToken bounds each part of a subject; a hex SHA-256 has 64 characters.
const maxToken = 64

func isToken(s string) bool {
	if s == "" || len(s) > maxToken {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// isName is isToken for what people choose.
func isName(s string) bool {
	if s == "" || len(s) > maxToken {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
