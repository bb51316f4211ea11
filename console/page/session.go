package page

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

const (
	cookieName = "lithify-session"
	// maxCookie is what browsers keep of one, in bytes, with its name.
	maxCookie = 4000
	// maxForm is above the largest token that a cookie can hold, in bytes.
	maxForm = 16 << 10
)

func (p *Page) viewer(r *http.Request) (Viewer, error) {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return Viewer{}, fmt.Errorf("nobody is logged in: %w", errdefs.ErrUnauthenticated)
	}
	return p.auth.Viewer(r.Context(), c.Value)
}

func loginPath(to string) string { return "/login?" + url.Values{"to": {to}}.Encode() }

// loginData is what the form shows.
type loginData struct {
	To      string
	Problem string
	Again   bool // the browser is to ask for To once more by itself
}

// loginForm is also what somebody gets who follows a link from elsewhere: to such a request
// a browser adds no SameSite=Strict cookie, but to the next one, which this page asks for.
func (p *Page) loginForm(w http.ResponseWriter, r *http.Request) {
	d := loginData{To: local(r.URL.Query().Get("to")), Again: r.Header.Get("Sec-Fetch-Site") == "cross-site"}
	p.render(w, http.StatusOK, "login", frame{Title: "Log in", Data: d})
}

func (p *Page) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	to := local(r.PostFormValue("to"))
	session, lasts, err := p.auth.Login(r.Context(), strings.TrimSpace(r.PostFormValue("secret")))
	if err == nil && len(session) > maxCookie {
		err = fmt.Errorf("the token has %d bytes, and a browser keeps no more than %d: %w", len(session), maxCookie, errdefs.ErrOutOfRange)
	}
	if err != nil {
		p.log.InfoContext(r.Context(), "login refused", "remote", r.RemoteAddr, "error", err)
		p.render(w, codeOf(err), "login", frame{Title: "Log in", Data: loginData{To: to, Problem: err.Error()}})
		return
	}
	http.SetCookie(w, cookie(r, session, lasts))
	http.Redirect(w, r, to, http.StatusSeeOther)
}

func (p *Page) logout(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, cookie(r, "", -1))
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

// cookie is one that the browser sends to this page alone, never by a request that another
// site makes, and only by TLS but to this machine itself.
func cookie(r *http.Request, value string, lasts time.Duration) *http.Cookie {
	return &http.Cookie{Name: cookieName, Value: value, Path: "/", MaxAge: int(lasts.Seconds()),
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil || !isLoopback(r.Host)}
}

// isLoopback is of a Host header that names this machine.
func isLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// local is a path of this server, whatever was asked for.
func local(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\r\n") {
		return "/"
	}
	return u.RequestURI()
}
