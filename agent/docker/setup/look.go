package setup

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Facts are what decides where an engine's containers ask for names.
type Facts struct {
	Version string   // of the engine; empty: none answers
	API     string   // the newest version of its API, such as "1.48"
	Servers []string // of daemon.json
	Resolv  []string // nameservers of the host's resolv.conf
}

// Paths are where Look looks.
type Paths struct{ Socket, File, ResolvConf string }

// Look reads the facts. The error says what is wrong with daemon.json; an
// absent file and an absent engine are none.
func Look(ctx context.Context, p Paths) (Facts, error) {
	f := Facts{Resolv: Nameservers(p.ResolvConf)}
	f.Version, f.API = version(ctx, p.Socket)
	text, _, err := read(p.File)
	if err == nil {
		f.Servers, err = Servers(text)
	}
	if err != nil {
		return f, fmt.Errorf("%s: %w", p.File, err)
	}
	return f, nil
}

// Listed reports whether daemon.json sends containers to Address. The engine
// read it at its last start.
func (f Facts) Listed() bool { return len(f.Servers) > 0 && f.Servers[0] == Address }

// Reach says in words by which way containers without a DNS option of their own
// reach this host's DNS server, and whether any does. Redirected tells whether
// their questions to the host's resolvers are redirected.
func (f Facts) Reach(redirects bool) (words string, ok bool) {
	switch {
	case f.Listed():
		return "daemon.json sends containers to " + Address, true
	case len(f.Servers) > 0 && redirects:
		return "what containers ask " + strings.Join(f.Servers, ", ") + " of daemon.json is redirected", true
	case !redirects:
		return "containers ask elsewhere, and dns_intercept is off", false
	case f.asksFromHost():
		return "engine " + f.Version + " asks for its containers from the host: nothing is there to redirect", false
	case len(f.Resolv) > 0 && loopback(f.Resolv[0]):
		return "the host's resolver is " + f.Resolv[0] + ", which the engine asks from the host: nothing is there to redirect", false
	}
	return "what containers ask the host's resolvers is redirected", true
}

// asksFromHost reports whether the engine asks for its containers from its own
// namespace, whatever the server: those of version 28, API 1.48, and later. What
// a distribution or a developer calls an engine may be no number.
func (f Facts) asksFromHost() bool {
	_, minor, _ := strings.Cut(f.API, ".")
	n, err := strconv.Atoi(minor)
	return err == nil && n >= 48
}

func loopback(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.IsLoopback()
}

// stubServers is where systemd-resolved lists the servers behind its stub
// (systemd-resolved.service(8)).
const stubServers = "/run/systemd/resolve/resolv.conf"

// Upstreams are the servers of a resolv.conf that a container can ask by itself,
// or those behind a stub resolver.
func Upstreams(resolvConf string) []string {
	reachable := func(path string) []string { return slices.DeleteFunc(Nameservers(path), unreachable) }
	if servers := reachable(resolvConf); len(servers) > 0 {
		return servers
	}
	return reachable(stubServers)
}

func unreachable(s string) bool {
	a, err := netip.ParseAddr(s)
	return err != nil || a.IsLoopback() || a.Zone() != "" || s == Address
}

// Nameservers are those of a resolv.conf(5), none if it cannot be read.
func Nameservers(path string) (servers []string) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if f := strings.Fields(lines.Text()); len(f) > 1 && f[0] == "nameserver" {
			servers = append(servers, f[1])
		}
	}
	return servers
}

// versionWithin is long for a socket of this machine.
const versionWithin = time.Second

// version asks the engine for its own and its API's; empty ones mean that none
// answers.
func version(ctx context.Context, socket string) (engine, api string) {
	ctx, cancel := context.WithTimeout(ctx, versionWithin)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/version", nil)
	if err != nil {
		return "", ""
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return "", ""
	}
	defer res.Body.Close()
	var answer struct{ Version, ApiVersion string }
	if json.NewDecoder(res.Body).Decode(&answer) != nil {
		return "", ""
	}
	return answer.Version, answer.ApiVersion
}
