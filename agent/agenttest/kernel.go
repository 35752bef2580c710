package agenttest

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Entries is what the fabric of a host holds, as ip(8) and bridge(8) print it,
// one object a line, sorted. Two dumps with nothing done in between are equal.
func (h *Host) Entries(t testing.TB) []string {
	t.Helper()
	var all []string
	for _, args := range [][]string{
		{"ip", "-n", string(h.Fabric), "-o", "link"},
		{"ip", "-n", string(h.Fabric), "neigh", "show", "nud", "all"},
		{"bridge", "-n", string(h.Fabric), "fdb"},
		{"ip", "-n", string(h.NS), "-o", "link"},
		{"ip", "-n", string(h.NS), "-4", "route", "show", "table", "all"},
	} {
		for line := range strings.Lines(must(t, args...)) {
			if line = normal(line); line != "" {
				all = append(all, line)
			}
		}
	}
	slices.Sort(all)
	return all
}

// Entries is Host.Entries of every host, in their order.
func (l *Lab) Entries(t testing.TB) [][]string {
	t.Helper()
	var all [][]string
	for _, h := range l.Hosts {
		all = append(all, h.Entries(t))
	}
	return all
}

// normal drops from a line what differs between two dumps of one state.
func normal(line string) string {
	// A route to the loopback of a dump, and neighbours that the kernel learned
	// for the host's own traffic, come and go.
	if strings.Contains(line, "NOARP") {
		return ""
	}
	line = volatile.ReplaceAllString(line, "")
	return strings.Join(strings.Fields(strings.ReplaceAll(line, `\`, " ")), " ")
}

var volatile = regexp.MustCompile(`^\d+: | used \d+/\d+/\d+| offload`)

// Holds reports whether the fabric of the host has an entry for the address.
func (h *Host) Holds(t testing.TB, addr netip.Addr) bool {
	t.Helper()
	out := must(t, "ip", "-n", string(h.Fabric), "neigh", "show", "nud", "all", "to", addr.String())
	return strings.TrimSpace(out) != ""
}

// Diff returns the lines that are only in before, marked -, and only in after,
// marked +.
func Diff(before, after []string) string {
	var b strings.Builder
	for _, l := range before {
		if !slices.Contains(after, l) {
			fmt.Fprintf(&b, "- %s\n", l)
		}
	}
	for _, l := range after {
		if !slices.Contains(before, l) {
			fmt.Fprintf(&b, "+ %s\n", l)
		}
	}
	return b.String()
}
