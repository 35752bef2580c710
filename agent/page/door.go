package page

import (
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"html"
	"net"
	"net/http"
	"sync"
)

// tokenKey is the key of the token in the link.
const tokenKey = "token"

// door lets one browser in. The token of the link is worth something once: it stays in
// the history of the browser and in what a terminal shows. What the browser gets for it
// is another secret, which no script can read and no other page can have sent.
type door struct {
	token  string
	cookie string

	mu   sync.Mutex // guards what follows
	used bool
}

func newDoor() *door { return &door{token: rand.Text(), cookie: rand.Text()} }

// cookieName has the port in it: cookies know hosts alone, and two of these pages may be
// open at a time.
func cookieName(r *http.Request) string {
	_, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		port = "80"
	}
	return "weft-" + port
}

// knows reports whether the request is of the browser that was let in.
func (d *door) knows(r *http.Request) bool {
	c, err := r.Cookie(cookieName(r))
	return err == nil && equal(c.Value, d.cookie)
}

// open exchanges the token for the cookie. A look ahead, such as HEAD, does not spend it.
func (d *door) open(w http.ResponseWriter, r *http.Request) {
	if d.knows(r) { // its own link again
		onward(w)
		return
	}
	switch {
	case !equal(r.URL.Query().Get(tokenKey), d.token):
		refuse(w, "The token of this link is wrong.")
	case r.Method != http.MethodGet:
		w.WriteHeader(http.StatusNoContent)
	case !d.spend():
		refuse(w, "This link was used already: it opens the page once.")
	default:
		http.SetCookie(w, &http.Cookie{Name: cookieName(r), Value: d.cookie, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
		onward(w)
	}
}

// spend reports whether the token was not used before.
func (d *door) spend() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	first := !d.used
	d.used = true
	return first
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// onward goes to the page by way of one more of ours: a browser sends a strict cookie
// only where the page that leads there is of the same site, and the link may have been
// followed from any.
func onward(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprint(w, `<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=/"><title>weft</title><link rel="icon" href="/icon.svg"><a href="/">Go on</a></html>`)
}

// refuse says why, and what to type.
func refuse(w http.ResponseWriter, why string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(http.StatusForbidden)
	fmt.Fprintf(w, `<!doctype html><html lang="en"><meta charset="utf-8"><title>weft: not let in</title><h1>Not let in</h1><p>%s</p><p>Type this on the host again, and open the link that it prints:</p><pre>agentctl ui</pre></html>`, html.EscapeString(why))
}
