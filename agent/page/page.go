// Package page serves a page that shows one cluster to a person with a browser, out of
// the answers of the agent's API. It only reads. It listens to nobody: who serves it
// hands it a port, and a link that opens it once.
package page

import (
	"embed"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/weft-net/weft/agent/api"
)

// assets are the page, its scripts and its style, as a browser gets them.
//
//go:embed assets
var assets embed.FS

// Page is the page of one agent. Its methods are safe for concurrent use.
type Page struct {
	door   *door
	name   string // that a browser may call this machine by; empty: none but its addresses
	inside http.Handler
}

// New returns the page of the agent. host is what the operator calls the machine that
// serves it, where that is no address.
func New(agent api.Service, host string) *Page {
	files, err := fs.Sub(assets, "assets")
	if err != nil {
		panic(err) // the directory is in the program
	}
	mux := http.NewServeMux()
	mux.Handle("/", readOnly(http.FileServerFS(files)))
	calls := passed(api.NewHandler(agent, slog.New(slog.DiscardHandler)))
	mux.Handle("/v1/", calls)
	return &Page{door: newDoor(), name: host, inside: mux}
}

// Link is the path, with its query, that lets one browser in, once.
func (p *Page) Link() string { return "/?" + tokenKey + "=" + p.door.token }

// ServeHTTP implements http.Handler.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	switch {
	case !p.called(r):
		// A name that somebody else's DNS server points here (DNS rebinding).
		refuse(w, "This page is not served for the host "+r.Host+".")
	case !sameOrigin(r):
		refuse(w, "Another page asked for this.")
	case r.URL.Path == "/" && r.URL.Query().Has(tokenKey):
		p.door.open(w, r)
	case !p.door.knows(r):
		refuse(w, "This browser was not let in.")
	default:
		p.inside.ServeHTTP(w, r)
	}
}

// secure sets what a browser is told of every answer: to load nothing from elsewhere, to
// run no script but the files here, and to be shown in no other page.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// called reports whether the request means this machine: by an address that the
// connection came to, or by the name. The port is any, as of one who forwards it.
func (p *Page) called(r *http.Request) bool {
	host := strings.ToLower(r.Host)
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	local := localAddr(r)
	if host == "localhost" {
		return local.IsLoopback()
	}
	if p.name != "" && host == strings.ToLower(p.name) {
		return true
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && (a.Unmap() == local || a.IsLoopback() && local.IsLoopback())
}

// localAddr is the address that the connection came to.
func localAddr(r *http.Request) netip.Addr {
	a, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if a == nil {
		return netip.Addr{}
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// sameOrigin reports whether no other page made the browser ask. A link that a person
// follows is no such request, wherever it stands.
func sameOrigin(r *http.Request) bool {
	if o := r.Header.Get("Origin"); o != "" && o != "http://"+r.Host {
		return false
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return true
	}
	return r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Method == http.MethodGet && r.URL.Path == "/"
}

// readOnly refuses what is no reading of a file.
func readOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "this page only shows", http.StatusMethodNotAllowed)
			return
		}
		if r.URL.Path != "/" && strings.HasSuffix(r.URL.Path, "/") { // no list of the files
			http.NotFound(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}
