package page

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/containerd/errdefs"
)

// number is a parameter of a request; without it 0.
func number(r *http.Request, name string) (uint64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return 0, nil
	}
	return parseNumber(name, text)
}

func parseNumber(name, text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s %q is no number: %w", name, text, errdefs.ErrInvalidArgument)
	}
	return n, nil
}
