package registry

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Redact replaces, in every URL that text holds, the userinfo and the values of
// query parameters that could be a signature, so that the text can be logged.
func Redact(text string) string {
	return urls.ReplaceAllStringFunc(text, redactURL)
}

var urls = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>]+`)

// plainParams are the registry protocol's own parameters.
var plainParams = []string{"scope", "service", "mount", "from", "digest", "n", "last"}

func redactURL(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		scheme, _, _ := strings.Cut(s, "://")
		return scheme + "://REDACTED"
	}
	if u.User != nil {
		u.User = url.User("REDACTED")
	}
	if q := u.Query(); len(q) > 0 || u.RawQuery != "" {
		for k := range q {
			if !slices.Contains(plainParams, k) {
				q[k] = []string{"REDACTED"}
			}
		}
		u.RawQuery = q.Encode()
	}
	u.Fragment, u.RawFragment = "", ""
	return u.String()
}
