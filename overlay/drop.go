package overlay

import (
	"slices"
	"strings"
)

// Drop is what our packet filter has dropped for one reason.
type Drop struct {
	Reason         string // of DropReasons
	Packets, Bytes uint64
}

// dropReasons are the words for the rules that drop, or refuse. Of a chain the first
// that is in a rule counts.
var dropReasons = []struct {
	place             Place
	chain, in, reason string
}{
	{Fabric, "guard", "ether type ip ", "spoofed"},
	{Fabric, "guard", "", "protocol"},
	{Fabric, "group", "", "multicast"},
	{Fabric, "guard_arp", "", "spoofed"},
	{Fabric, "guard_ip6", "nd-router-advert", "router"},
	{Fabric, "guard_ip6", "nd-redirect", "router"},
	{Fabric, "guard_ip6", "", "spoofed"},
	{Host, "in_raw", "127.0.0.0/8", "loopback"},
	{Host, "in_raw", "@nets", "outside"},
	{Host, "in_raw", "", "names"},
	{Host, "tunnel", "", "no_member"},
	{Host, "forward", "ct state invalid", "invalid"},
	{Host, "forward", "@uplinks", "router"},
	{Host, "forward", "meta iifgroup 0x4f56 meta oifgroup 0x4f56", "isolation"},
	{Host, "forward", "", "internal"},
	{Host, "members", "@closed", "host_access"},
	{Host, "members", "", "agent_port"},
	{Host, "input", "@agents", "agent_port"},
	{Host, "input", "@closed", "host_access"},
	{Host, "input", "@nets", "isolation"},
	{Host, "input", "", "internal"},
	{Host, "input_local", "", "host_access"},
	{Host, "input_names", "", "names"},
	{Host, "refused", "", "refused"},
}

// DropReason is the word for a rule of our tables; empty: it drops nothing, or does not
// count what.
func DropReason(p Place, chain, rule string) string {
	if !strings.Contains(rule, "counter ") {
		return ""
	}
	for _, r := range dropReasons {
		if r.place == p && r.chain == chain && strings.Contains(rule, r.in) {
			return r.reason
		}
	}
	return ""
}

// DropReasons are all words, sorted.
func DropReasons() []string {
	var all []string
	for _, r := range dropReasons {
		all = append(all, r.reason)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
