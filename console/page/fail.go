package page

import (
	"net/http"

	"github.com/lithify/lithify/jobs"
)

// codes are the statuses of errors that a page can end with.
var codes = map[jobs.ErrorKind]int{
	jobs.KindInvalidArgument:    http.StatusBadRequest,
	jobs.KindUnauthenticated:    http.StatusUnauthorized,
	jobs.KindPermissionDenied:   http.StatusForbidden,
	jobs.KindNotFound:           http.StatusNotFound,
	jobs.KindConflict:           http.StatusConflict,
	jobs.KindFailedPrecondition: http.StatusConflict,
	jobs.KindOutOfRange:         http.StatusRequestEntityTooLarge,
	jobs.KindUnavailable:        http.StatusServiceUnavailable,
	jobs.KindDeadlineExceeded:   http.StatusServiceUnavailable,
	jobs.KindResourceExhausted:  http.StatusServiceUnavailable,
}

func codeOf(err error) int {
	if code, ok := codes[jobs.KindOf(err)]; ok {
		return code
	}
	return http.StatusInternalServerError
}

// fail says why a page is not shown.
func (p *Page) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil { // whoever asked is gone
		return
	}
	code := codeOf(err)
	p.log.InfoContext(r.Context(), "page refused", "method", r.Method, "path", r.URL.Path, "remote", r.RemoteAddr, "status", code, "error", err)
	p.render(w, code, "error", frame{Title: http.StatusText(code), Data: err.Error()})
}
