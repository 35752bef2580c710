package nft

import (
	"net/netip"
	"testing"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/netns"
)

// Each row is what iptables-nft(8) is told, and whether a packet to port 80 and the
// answers to what begins here get in.
func TestRulesOfIptablesAreFollowed(t *testing.T) {
	l := newNFTLab(t)
	ns, err := netns.Open("/run/netns/" + l.host)
	must(t, err)
	defer ns.Close()
	in := overlay.Crossing{Src: netip.MustParseAddr("10.42.0.7"), Dst: netip.MustParseAddr("10.42.0.8"), Proto: "tcp", Port: 80}
	for rules, want := range map[string]struct{ dropped, answers bool }{
		"-A INPUT -p tcp --dport 80 -j DROP":                           {true, false},
		"-A INPUT -p tcp --dport 80 -j REJECT --reject-with tcp-reset": {true, false},
		"-A INPUT -p tcp --dport 70:90 -m comment --comment x -j DROP": {true, false},
		"-A INPUT -p tcp --dport 81 -j DROP":                           {},
		"-A INPUT -p tcp ! --dport 81 -j DROP":                         {true, false},
		"-A INPUT -p udp --dport 80 -j DROP":                           {},
		"-A INPUT -p tcp --sport 80 -j DROP":                           {},
		"-A INPUT -i eth0 -p tcp --dport 80 -j DROP":                   {true, false},
		"-A INPUT -i eth1 -p tcp --dport 80 -j DROP":                   {},
		"-A INPUT -s 10.42.0.7 -j DROP":                                {true, false},
		"-A INPUT -p tcp --syn --dport 80 -j DROP":                     {}, // it may be for it: nothing is said
		"-P INPUT DROP": {true, true},
		"-P INPUT DROP;-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT":                                   {true, false},
		"-P INPUT DROP;-A INPUT -m state --state ESTABLISHED -j ACCEPT;-A INPUT -p tcp --dport 80 -j ACCEPT":            {},
		"-P INPUT DROP;-A INPUT -m conntrack ! --ctstate NEW -j ACCEPT":                                                 {true, false},
		"-A INPUT -j LOG;-A INPUT -j MARK --set-mark 1;-A INPUT -p tcp --dport 80 -m addrtype --dst-type LOCAL -j DROP": {},
		"-N ours;-A INPUT -j ours;-A ours -p tcp --dport 80 -j DROP":                                                    {true, false},
	} {
		t.Run(rules, func(t *testing.T) {
			defer sh(t, "ip netns exec %s sh -c 'iptables -P INPUT ACCEPT; iptables -F; iptables -X'", l.host)
			sh(t, "ip netns exec %s sh -ec 'echo \"%s\" | tr \";\" \"\\n\" | while read -r line; do iptables $line; done'", l.host, rules)
			dropped, err := Dropping(ns, Input, Device{"eth0", 3, 0}, in, false, "")
			must(t, err)
			answers, err := Dropping(ns, Input, Device{"eth0", 3, 0}, in.Reversed(), true, "")
			must(t, err)
			if len(dropped) > 0 != want.dropped || len(answers) > 0 != want.answers {
				t.Errorf("dropped by %v, answers by %v", dropped, answers)
			}
		})
	}
}
