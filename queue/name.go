package queue

import (
	"fmt"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/google/uuid"
)

// Named gives the name of a worker or scheduler: want if it can be part of a
// subject, else errdefs.ErrInvalidArgument; for none a new one after this host.
func Named(want string) (string, error) {
	if want != "" {
		if token(want) != want {
			return "", fmt.Errorf("name %q: want letters, digits and dashes: %w", want, errdefs.ErrInvalidArgument)
		}
		return want, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", err
	}
	return token(host) + "-" + uuid.NewString()[:8], nil
}

// token makes a name that is one part of a subject.
func token(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, s)
}
