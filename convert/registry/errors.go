package registry

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/lithify/lithify/convert"
)

// Error is what a registry answered, why it gave no answer, or what is wrong
// with a reference, layout or archive. It holds no credential and wraps only
// kinds: errdefs', convert.ErrNotFound and the context's, never the error of a
// library that might print more.
type Error struct {
	// Status is the HTTP status, 0 without an answer.
	Status int
	// RetryAfter is what a 429 or 503 asked to wait, 0 if it did not say.
	RetryAfter time.Duration

	text  string
	kinds []error
	// settled: a moment later it will be the same. A queue may try again, we do not.
	settled bool
}

func (e *Error) Error() string   { return e.text }
func (e *Error) Unwrap() []error { return e.kinds }

func invalid(format string, args ...any) error {
	return &Error{text: fmt.Sprintf(format, args...), kinds: []error{errdefs.ErrInvalidArgument}}
}

func absent(format string, args ...any) error {
	return &Error{text: fmt.Sprintf(format, args...), kinds: []error{errdefs.ErrNotFound, convert.ErrNotFound}}
}

// worthRetry tells what another attempt may mend.
func worthRetry(err error) bool {
	if e, ok := errors.AsType[*Error](err); ok && e.settled {
		return false
	}
	return errors.Is(err, errdefs.ErrUnavailable) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

func kindsOf(status int) []error {
	switch {
	case status == http.StatusUnauthorized:
		return []error{errdefs.ErrUnauthenticated}
	case status == http.StatusForbidden:
		return []error{errdefs.ErrPermissionDenied}
	case status == http.StatusNotFound:
		return []error{errdefs.ErrNotFound, convert.ErrNotFound}
	case status == http.StatusMethodNotAllowed, status == http.StatusNotImplemented:
		return []error{errdefs.ErrNotImplemented}
	case status == http.StatusConflict:
		return []error{errdefs.ErrConflict}
	case status == http.StatusPreconditionFailed:
		return []error{errdefs.ErrFailedPrecondition}
	case status == http.StatusRequestedRangeNotSatisfiable:
		return []error{errdefs.ErrOutOfRange}
	case transientStatus(status), status >= 500:
		return []error{errdefs.ErrUnavailable}
	case status >= 400:
		return []error{errdefs.ErrInvalidArgument}
	}
	return []error{errdefs.ErrUnknown}
}

// refusal reads an answer that was not wanted. Its status counts, also where the
// page that came with it is too long or breaks off.
func (c *client) refusal(resp *http.Response) error {
	err := transport.CheckError(resp)
	if _, ok := errors.AsType[*transport.Error](err); !ok {
		err = &transport.Error{StatusCode: resp.StatusCode, Request: resp.Request}
	}
	return c.failure(err)
}

// failure turns whatever came out of the HTTP stack into an Error that is safe
// to print.
func (c *client) failure(err error) error {
	// ggcr asks a private address by plain HTTP as well: that we did not let it do
	// so says nothing where nobody answered.
	if e, ok := errors.AsType[*Error](err); ok && !unreached(err) {
		return e
	}
	if te, ok := errors.AsType[*transport.Error](err); ok {
		var h http.Header
		if te.Request != nil {
			h = te.Request.Header
		}
		return &Error{Status: te.StatusCode, text: c.clean(answer(te), h), kinds: kindsOf(te.StatusCode)}
	}
	return &Error{text: c.clean(err.Error(), nil), kinds: kindsOfFailure(err), settled: unresolved(err)}
}

func kindsOfFailure(err error) []error {
	_, badCert := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case transient(err), unreached(err): // before the context's: time-outs of net/http call themselves DeadlineExceeded
		return []error{errdefs.ErrUnavailable}
	case errors.Is(err, context.Canceled):
		return []error{context.Canceled}
	case errors.Is(err, context.DeadlineExceeded):
		return []error{context.DeadlineExceeded}
	case badCert:
		return []error{errdefs.ErrFailedPrecondition}
	}
	return []error{errdefs.ErrUnknown}
}

// transient tells a network that failed from a peer that will never do.
func transient(err error) bool {
	_, broke := errors.AsType[*brokenError](err)
	return broke || errors.Is(err, io.EOF)
}

// unreached tells a host to which no connection could be made (no address, no
// route, refused) from an address that cannot be one or is not allowed.
func unreached(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || !dialling(op) {
		return false
	}
	_, name := errors.AsType[*net.DNSError](op)
	_, system := errors.AsType[syscall.Errno](op)
	return name || system || op.Timeout()
}

func dialling(op *net.OpError) bool { return op.Op == "dial" || op.Op == "proxyconnect" }

// unresolved tells a name that has no address from a name server that does not
// answer. It is a typing error more often than a network that is away, and who
// made it should not wait.
func unresolved(err error) bool {
	e, ok := errors.AsType[*net.DNSError](err)
	return ok && !e.IsTemporary && !e.IsTimeout
}

// answer is an error response in words: its status and the codes and messages of
// a registry's JSON. The body of anything else (a proxy's page, a token server's
// reply) is left out.
func answer(te *transport.Error) string {
	text := fmt.Sprintf("%d %s", te.StatusCode, http.StatusText(te.StatusCode))
	for _, d := range te.Errors {
		text += fmt.Sprintf(", %s: %s", d.Code, d.Message)
	}
	return text
}

// notURL is url.Parse's complaint. It repeats the address, and the part it did
// not like without the rest, where nobody would know a password for one.
var notURL = regexp.MustCompile(`parse "(?:[^"\\]|\\.)*": .*`)

// maxErrorText keeps a registry from filling the log.
const maxErrorText = 600

// clean makes text one line without secrets: those of the keychain, that of the
// request's own header, and those in URLs. Only the first line stays: ggcr puts
// a token server's whole reply on the second.
func (c *client) clean(text string, h http.Header) string {
	text, _, _ = strings.Cut(text, "\n")
	text = notURL.ReplaceAllString(text, "not a URL")
	for _, s := range append(headerSecrets(h), c.secrets.all()...) {
		text = strings.ReplaceAll(text, s, "REDACTED")
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, Redact(text))
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "") + "..."
	}
	return text
}

func headerSecrets(h http.Header) []string {
	_, credential, _ := strings.Cut(h.Get("Authorization"), " ")
	if credential == "" {
		return nil
	}
	found := []string{credential}
	if raw, err := base64.StdEncoding.DecodeString(credential); err == nil {
		if _, password, ok := strings.Cut(string(raw), ":"); ok && password != "" {
			found = append(found, password)
		}
	}
	return found
}
