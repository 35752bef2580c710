package environment

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/api"
)

func TestChecks(t *testing.T) {
	eth := Uplink{Addr: netip.MustParseAddr("192.0.2.1"), Dev: "eth0", MTU: 1500, Forwarding: "1", RPFilter: "2"}
	with := func(change func(*Uplink)) *Uplink {
		u := eth
		change(&u)
		return &u
	}
	at := netip.MustParseAddrPort
	gone := errors.New("no answer within 1s")
	for _, tt := range []struct {
		name  string
		f     Facts
		id    string
		state string
		says  string // in the evidence
		hint  string // begins so
	}{
		{"room for connections", Facts{Conntrack: &Conntrack{Count: 79, Most: 100}}, "conntrack", api.CheckOK, "79 connections are tracked, at most 100", ""},
		{"many connections", Facts{Conntrack: &Conntrack{Count: 80, Most: 100}}, "conntrack", api.CheckWarn, "80 connections", "sysctl -w net.netfilter.nf_conntrack_max=400"},
		{"no room for connections", Facts{Conntrack: &Conntrack{Count: 96, Most: 100}}, "conntrack", api.CheckFail, "new ones are dropped", "sysctl -w"},
		{"none are tracked", Facts{Conntrack: &Conntrack{None: true}}, "conntrack", api.CheckOK, "tracks no connections", ""},
		{"connections cannot be read", Facts{Conntrack: &Conntrack{Err: gone}}, "conntrack", api.CheckWarn, "cannot be read", "sysctl"},

		{"an uplink", Facts{Uplink: &eth}, "uplink", api.CheckOK, "eth0 has 192.0.2.1 and carries packets of 1500 bytes", ""},
		{"a driver that helps", Facts{Uplink: with(func(u *Uplink) { u.Driver, u.Offloads = "mlx5_core", []string{"tx-udp_tnl-segmentation"} })}, "uplink", api.CheckOK, "driver mlx5_core, it works for tunnels by itself: tx-udp_tnl-segmentation", ""},
		{"a small uplink", Facts{Uplink: with(func(u *Uplink) { u.MTU = 1300 })}, "uplink", api.CheckWarn, "1300 bytes", "ip link set eth0 mtu 1500"},
		{"no uplink", Facts{Uplink: with(func(u *Uplink) { u.Dev = "" })}, "uplink", api.CheckFail, "no device of this host has its address 192.0.2.1", "ip addr"},
		{"it forwards", Facts{Carried: 2, Uplink: &eth}, "forwarding", api.CheckOK, "net.ipv4.conf.eth0.forwarding=1, 2 networks", ""},
		{"it need not forward", Facts{Uplink: with(func(u *Uplink) { u.Forwarding = "0" })}, "forwarding", api.CheckOK, "=0, 0 networks", ""},
		{"it does not forward", Facts{Carried: 1, Uplink: with(func(u *Uplink) { u.Forwarding = "0" })}, "forwarding", api.CheckFail, "does not come back", "sysctl -w net.ipv4.conf.eth0.forwarding=1"},

		{"one way", Facts{Uplink: &eth, Ways: []Way{{Host: "h2", Dev: "eth0"}}}, "ways", api.CheckOK, "1 members leave by eth0; rp_filter=2", ""},
		{"two ways, loose", Facts{Uplink: &eth, Ways: []Way{{Host: "h2", Dev: "eth1"}}}, "ways", api.CheckWarn, "to h2 by eth1", "ip route"},
		{"two ways, strict", Facts{Uplink: with(func(u *Uplink) { u.RPFilter = "1" }), Ways: []Way{{Host: "h2", Dev: "eth1"}}}, "ways", api.CheckFail, "send to eth0 is dropped", "sysctl -w net.ipv4.conf.eth0.rp_filter=2"},
		{"no way", Facts{Uplink: &eth, Ways: []Way{{Host: "h2", Err: errors.New("network is unreachable")}}}, "ways", api.CheckWarn, "to h2: network is unreachable", "ip route"},

		{"room on the disk", Facts{Space: []Space{{What: "data", Dir: "/d", Free: 1 << 30, Files: 1 << 20, NeedFree: 1 << 27, Dangered: 1 << 23}}}, "space", api.CheckOK, "/d for data takes 1 GiB and 1048576 files more", ""},
		{"little room", Facts{Space: []Space{{Dir: "/d", Free: 1 << 26, Files: 1 << 20, NeedFree: 1 << 27, Dangered: 1 << 23}}}, "space", api.CheckWarn, "64 MiB", "df -h /d"},
		{"no room", Facts{Space: []Space{{Dir: "/d", Free: 1 << 22, Files: 1 << 20, NeedFree: 1 << 27, Dangered: 1 << 23}}}, "space", api.CheckFail, "4 MiB", "df -h /d"},
		{"no files", Facts{Space: []Space{{Dir: "/d", Free: 1 << 30, Files: 3, NeedFree: 1 << 27}}}, "space", api.CheckFail, "3 files", "df -h /d"},
		{"no directory", Facts{Space: []Space{{Dir: "/d", Err: gone}}}, "space", api.CheckWarn, "cannot be asked", "df -h /d"},

		{"our port", Facts{Ports: []Port{{What: "gossip", Proto: "tcp", Number: 4798, Holders: []string{"agentd (pid 1)"}, Own: true, Wanted: true}}}, "port", api.CheckOK, "4798/tcp, gossip, is the agent's", ""},
		{"a free port", Facts{Ports: []Port{{What: "gossip", Proto: "tcp", Number: 4798}}}, "port", api.CheckOK, "is free", ""},
		{"another's port", Facts{Ports: []Port{{What: "gossip", Proto: "tcp", Number: 4798, Holders: []string{"nginx (pid 7)"}}}}, "port", api.CheckFail, "is held by nginx (pid 7)", "ss -lntup sport = :4798"},
		{"nobody's port", Facts{Ports: []Port{{What: "gossip", Proto: "tcp", Number: 4798, Wanted: true}}}, "port", api.CheckFail, "nobody listens on 4798/tcp", "journalctl"},

		{"one packet filter", Facts{Firewall: &Firewall{NFT: []string{"inet filter"}}}, "firewall", api.CheckOK, "in nftables: inet filter", ""},
		{"the old packet filter", Facts{Firewall: &Firewall{Legacy: []string{"filter"}}}, "firewall", api.CheckOK, "old iptables: filter", ""},
		{"two packet filters", Facts{Firewall: &Firewall{NFT: []string{"inet filter"}, Legacy: []string{"filter", "nat"}}}, "firewall", api.CheckWarn, "filter, nat: both filter", "iptables-legacy-save"},

		{"a packet filter that is not shown", Facts{Firewall: &Firewall{Err: errors.New("exit status 1")}}, "firewall", api.CheckWarn, "nftables cannot be read: exit status 1", "nft list tables"},

		{"a program", Facts{Programs: []Program{{Name: "nft", For: "rules", Version: "v1.0.6"}}}, "program", api.CheckOK, "nft, for rules: v1.0.6", ""},
		{"no program", Facts{Programs: []Program{{Name: "nft", For: "rules", Err: errors.New("not found")}}}, "program", api.CheckWarn, "not found", "apt-get install nft"},

		{"clocks agree", Facts{Clocks: []Clock{{Host: "h2", Ahead: 2500 * time.Millisecond, Within: time.Second}}}, "clock", api.CheckOK, "1 members agree with this one to 1.5s", ""},
		{"a clock ahead", Facts{Clocks: []Clock{{Host: "h2", Ahead: 3 * time.Second, Within: time.Millisecond}}}, "clock", api.CheckWarn, "the clock of h2 is 3s ahead of this host's", "timedatectl"},
		{"a clock behind", Facts{Clocks: []Clock{{Host: "h2", Ahead: -3 * time.Second}}}, "clock", api.CheckWarn, "3s behind this host's", "timedatectl"},
		{"a clock unasked", Facts{Clocks: []Clock{{Host: "h2", Err: gone}}}, "clock", api.CheckOK, "h2 was not asked: no answer", ""},

		{"resolvers answer", Facts{Resolvers: []Resolver{{Addr: at("192.0.2.53:53"), Took: 1234 * time.Microsecond}}}, "resolvers", api.CheckOK, "1 of 1 resolvers for other names answer: 192.0.2.53:53 in 1.23ms", ""},
		{"one resolver answers", Facts{Resolvers: []Resolver{{Addr: at("192.0.2.53:53")}, {Addr: at("192.0.2.54:53"), Err: gone}}}, "resolvers", api.CheckWarn, "192.0.2.54:53 does not: no answer within 1s", "dig @192.0.2.54 . NS"},
		{"a slow resolver", Facts{Resolvers: []Resolver{{Addr: at("192.0.2.53:53"), Took: 600 * time.Millisecond}}}, "resolvers", api.CheckWarn, "in 600ms", "dig @192.0.2.53"},
		{"no resolver answers", Facts{Resolvers: []Resolver{{Addr: at("192.0.2.54:53"), Err: gone}}}, "resolvers", api.CheckFail, "0 of 1", "dig @192.0.2.54"},

		{"a store", Facts{Store: &Store{Where: "in Consul at x", Took: 4 * time.Millisecond, Requests: 9, Failed: 1}}, "store-latency", api.CheckOK, "in Consul at x answered in 4ms; of 9 requests since the start 1 failed", ""},
		{"a slow store", Facts{Store: &Store{Took: time.Second}}, "store-latency", api.CheckWarn, "in 1s", "consul operator"},
		{"no store", Facts{Store: &Store{Err: gone}}, "store-latency", api.CheckFail, "did not answer: no answer", "agentctl status"},

		{"one release", Facts{Releases: []Release{{"h1", "v1"}, {"h2", "v1"}}}, "releases", api.CheckOK, "all 2 members run agentd v1", ""},
		{"two releases", Facts{Releases: []Release{{"h1", "v1"}, {"h2", "v2"}, {"h3", "v1"}}}, "releases", api.CheckWarn, "v1 on h1, h3; v2 on h2", "agentctl members"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := 0
			for _, c := range Checks(tt.f) {
				if c.Subject == "" && c.ID != "store-latency" || c.Evidence == "" {
					t.Errorf("says nothing: %+v", c)
				}
				if c.ID != tt.id {
					continue
				}
				if n++; c.State != tt.state || !strings.Contains(c.Evidence, tt.says) || !strings.HasPrefix(c.Hint, tt.hint) || (c.State == api.CheckOK) != (c.Hint == "") {
					t.Errorf("%+v", c)
				}
			}
			if n != 1 {
				t.Errorf("%d findings %s in %+v", n, tt.id, Checks(tt.f))
			}
		})
	}
	if all := Checks(Facts{}); len(all) > 0 {
		t.Errorf("of what was not looked at: %+v", all)
	}
}
