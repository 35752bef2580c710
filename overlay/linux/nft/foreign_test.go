package nft

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/nftables"
)

// flows are those of one network with a published port.
func someFlows() []Flow {
	g, eth0 := Device{"g00002a", 7, 0x4f56}, Device{"eth0", 3, 0}
	a := netip.MustParseAddr("10.42.0.7")
	return []Flow{
		{Name: "egress", In: g, Out: eth0, Src: a},
		{Name: "answers", In: eth0, Out: g, Dst: a, FromWorld: true, Established: true},
		{Name: "published", In: eth0, Out: g, Dst: a, FromWorld: true, Translated: true},
		{Name: "egress6", In: g, Out: eth0, Src: netip.MustParseAddr("2001:db8:2a::7")},
	}
}

// Each row is a forward chain of another program and what of endpoints it drops.
func TestForeignFiltersAreFollowed(t *testing.T) {
	l := newNFTLab(t)
	sh(t, "ip -n %s link add eth0 type veth peer name g00002a", l.host)
	const all, v4 = "egress answers published egress6", "egress answers published"
	for name, row := range map[string]struct{ rules, want string }{
		"a policy":                         {"policy drop;", all},
		"a policy of IPv4":                 {"ip| policy drop;", v4},
		"a policy of IPv6":                 {"ip6| policy drop;", "egress6"},
		"no policy":                        {"policy accept;", ""},
		"a rule for all":                   {"policy accept; reject with icmpx admin-prohibited", all},
		"after what a firewall lets pass":  {"policy drop; ct state established,related accept; ct state invalid drop; iifname \"eth9\" accept", "egress published egress6"},
		"a verdict map":                    {"policy drop; ct state vmap { established : accept, related : accept, invalid : drop }", "egress published egress6"},
		"a map of names":                   {"policy drop; iifname vmap { \"g00002a\" : jump weft-user, \"eth1\" : drop }; oifname vmap { \"g00002a\" : accept }", ""},
		"published ports":                  {"policy drop; ct status dnat accept; ct state { established, related } accept", "egress egress6"},
		"our groups":                       {"policy drop; meta iifgroup 0x4f56 accept; meta oifgroup 0x4f56 accept", ""},
		"our names":                        {"policy drop; iifname \"g*\" accept; oifname \"g*\" accept", ""},
		"a set of names":                   {"policy drop; iifname { \"eth1\", \"g00002a\" } accept; oifname { \"g00002a\" } accept", ""},
		"the other names":                  {"policy drop; iifname != \"eth0\" accept; oifname != \"eth0\" accept", ""},
		"an index":                         {"policy drop; meta iif 7 accept; meta oif 7 accept", ""},
		"the subnet":                       {"ip| policy drop; ip saddr 10.42.0.0/16 accept; ip daddr 10.42.0.0/20 accept", ""},
		"a set of subnets":                 {"ip| policy drop; ip saddr { 10.42.0.0/16, 192.0.2.0/24 } accept; ip daddr 10.42.0.0/16 accept", ""},
		"another subnet":                   {"ip| policy drop; ip saddr 10.43.0.0/16 accept", v4},
		"some ports of endpoints":          {"policy drop; iifname \"g*\" tcp dport { 80, 443 } accept; oifname \"g*\" accept", ""},
		"some ports of anybody":            {"policy drop; tcp dport 22 accept", all},
		"a drop of something":              {"policy accept; ip daddr 203.0.113.0/24 drop; tcp dport 25 reject; limit rate over 10/second drop", ""},
		"a chain of ours":                  {"policy drop; jump weft-user", ""},
		"a chain that goes to the end":     {"policy drop; goto nothing; accept", all},
		"a chain that ends in a reject":    {"policy accept; iifname \"g*\" jump zone; oifname \"g*\" goto zone", all},
		"another uplink":                   {"policy drop; iifname \"lan0\" oifname \"eth0\" accept", all},
		"a mark that packets may not have": {"policy drop; meta mark 1 accept", all},
	} {
		t.Run(name, func(t *testing.T) {
			family, rules, ok := strings.Cut(row.rules, "| ")
			if !ok {
				family, rules = "inet", row.rules
			}
			sh(t, "ip netns exec %s nft -f - <<'END'\n%s\nEND", l.host, "table "+family+" fw {\nchain weft-user { iifname \"g*\" accept; oifname \"g*\" accept; }\nchain nothing { counter; }\nchain zone { counter; reject; }\n"+
				"chain ahead { type filter hook forward priority 10; "+rules+"\n}\n}")
			defer sh(t, "ip netns exec %s nft delete table %s fw", l.host, family)
			found, err := l.nft.Droppers(someFlows())
			must(t, err)
			got := ""
			for _, f := range found {
				if f.String() != family+" fw ahead" {
					t.Errorf("found %s", f)
				}
				got = strings.Join(f.Drops, " ")
			}
			if got != row.want {
				t.Errorf("drops %q, want %q", got, row.want)
			}
		})
	}
}

// Chains of the input hook are judged by what the host takes in, and by nothing else.
func TestForeignFiltersOfTheHostItselfAreFollowed(t *testing.T) {
	l := newNFTLab(t)
	sh(t, "ip -n %s link add eth0 type veth peer name g00002a", l.host)
	g := Device{"g00002a", 7, 0x4f56}
	flows := append(someFlows(), Flow{Name: "names", Hook: Input, In: g, Src: netip.MustParseAddr("10.42.0.7"), Proto: 17, Port: 53})
	for rules, want := range map[string]string{
		"policy drop;": "names",
		"policy drop; ct state established,related accept; iifname lo accept; tcp dport 22 accept": "names",
		"policy drop; udp dport 53 accept": "",
		"policy drop; meta iifgroup { 0x4f56, 0x4f57 } meta l4proto { tcp, udp } th dport { 53, 4797 } accept": "",
		"policy drop; iifname \"g*\" accept":               "",
		"policy drop; ip saddr 10.0.0.0/8 accept":          "",
		"policy accept; tcp dport 53 drop":                 "",
		"policy accept; iifname g00002a udp dport 53 drop": "names",
		"policy accept; iifname eth0 drop":                 "",
	} {
		t.Run(rules, func(t *testing.T) {
			sh(t, "ip netns exec %s nft -f - <<'END'\ntable inet fw {\nchain in { type filter hook input priority 0; %s\n}\n}\nEND", l.host, rules)
			defer sh(t, "ip netns exec %s nft delete table inet fw", l.host)
			found, err := l.nft.Droppers(flows)
			must(t, err)
			got := ""
			for _, f := range found {
				got += strings.Join(f.Drops, " ")
				if !f.Input || f.String() != "inet fw in" {
					t.Errorf("found %+v", f)
				}
			}
			if got != want {
				t.Errorf("drops %q, want %q", got, want)
			}
			if want == "" {
				return
			}
			for _, accept := range found[0].Accept() {
				sh(t, "ip netns exec %s %s", l.host, accept)
			}
			if found, err := l.nft.Droppers(flows); err != nil || len(found) > 0 {
				t.Errorf("after what is said to let it pass: %+v, %v", found, err)
			}
		})
	}
}

// FuzzWalk: whatever the rules of another program are, following a packet through
// them neither panics nor goes on for ever.
func FuzzWalk(f *testing.F) {
	for _, kind := range []string{"match", "target", "meta", "ct", "payload", "bitwise", "cmp", "range", "lookup", "immediate"} {
		f.Add(kind, "\x08\x00\x01\x00\x00\x00\x00\x01\x08\x00\x02\x00\x00\x00\x00\x04", "\x0c\x00\x03\x80\x08\x00\x01\x00gg00")
	}
	f.Fuzz(func(t *testing.T, kind, data, more string) {
		r := &ruleset{family: nftables.TableFamilyINet, seen: map[string]bool{},
			set: func(string) (nftables.Set, []nftables.SetElement, bool) {
				return nftables.Set{Interval: len(more)%2 == 0}, []nftables.SetElement{{Key: []byte(more), Val: []byte(data)}, {Key: []byte(data), IntervalEnd: true}}, true
			}}
		r.chains = map[string][]rule{"": {
			{exprs: []expression{{"meta", data}, {"payload", more}, {kind, data}, {kind, more}, {"bitwise", more}, {"cmp", data}, {"lookup", more}, {"immediate", data}}},
			{exprs: []expression{{"ct", more}, {kind, data}}},
		}}
		for _, flow := range someFlows() {
			r.walk("", flow.packet(), 0)
		}
	})
}
