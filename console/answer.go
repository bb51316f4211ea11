package console

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/lithify/lithify/console/webhook"
	"github.com/lithify/lithify/jobs"
)

// maxBody bounds a request, in bytes.
const maxBody = webhook.MaxBody

// Error is the body of an answer that is none of 2xx.
type Error struct {
	Message string         `json:"error"`
	Kind    jobs.ErrorKind `json:"kind,omitempty"`
}

// codes are the statuses of the kinds that a request can end with.
var codes = map[jobs.ErrorKind]int{
	jobs.KindInvalidArgument:    http.StatusBadRequest,
	jobs.KindUnauthenticated:    http.StatusUnauthorized,
	jobs.KindPermissionDenied:   http.StatusForbidden,
	jobs.KindNotFound:           http.StatusNotFound,
	jobs.KindAlreadyExists:      http.StatusConflict,
	jobs.KindFailedPrecondition: http.StatusConflict,
	jobs.KindConflict:           http.StatusConflict,
	jobs.KindOutOfRange:         http.StatusRequestEntityTooLarge,
	jobs.KindUnavailable:        http.StatusServiceUnavailable,
	jobs.KindDeadlineExceeded:   http.StatusServiceUnavailable,
	jobs.KindResourceExhausted:  http.StatusServiceUnavailable,
}

// fail tells why a request was not served.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil { // whoever asked is gone
		return
	}
	kind := jobs.KindOf(err)
	code, ok := codes[kind]
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		code, kind = http.StatusRequestEntityTooLarge, jobs.KindOutOfRange
	} else if !ok {
		code = http.StatusInternalServerError
	}
	s.log.InfoContext(r.Context(), "request refused", "method", r.Method, "path", r.URL.Path, "remote", r.RemoteAddr, "status", code, "error", err)
	switch code {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "5")
	}
	if kind == jobs.KindUnknown {
		kind = ""
	}
	s.answer(w, code, Error{err.Error(), kind})
}

func (s *Server) answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(v); err != nil { // whoever asked is gone
		s.log.Debug("answer not written", "error", err)
	}
}
