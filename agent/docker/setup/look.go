package setup

import (
	"bufio"
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Facts are what decides where an engine's containers ask for names.
type Facts struct {
	Version string   // of the engine; empty: there is none
	API     string   // the newest version of its API, such as "1.48"
	Servers []string // of daemon.json
	Resolv  []string // nameservers of the host's resolv.conf
}

// Look reads the facts of a daemon.json and a resolv.conf; what the engine is the
// caller knows. The error says what is wrong with daemon.json; an absent file is
// none.
func Look(file, resolvConf string) (Facts, error) {
	f := Facts{Resolv: nameservers(resolvConf)}
	text, _, err := read(file)
	if err == nil {
		f.Servers, err = Servers(text)
	}
	if err != nil {
		return f, fmt.Errorf("%s: %w", file, err)
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
	reachable := func(path string) []string { return slices.DeleteFunc(nameservers(path), unreachable) }
	if servers := reachable(resolvConf); len(servers) > 0 {
		return servers
	}
	return reachable(stubServers)
}

func unreachable(s string) bool {
	a, err := netip.ParseAddr(s)
	return err != nil || a.IsLoopback() || a.Zone() != "" || s == Address
}

// nameservers are those of a resolv.conf(5), none if it cannot be read.
func nameservers(path string) (servers []string) {
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
