package overlay

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var writeRules = flag.Bool("write-rules", false, "write testdata/nft_*.txt instead of comparing")

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func subnet(cidr, gateway string) Subnet {
	return Subnet{CIDR: netip.MustParsePrefix(cidr), Gateway: addr(gateway)}
}

// filterStates are named states, each with the rules that it needs in testdata.
var filterStates = map[string]State{
	"member_of_no_network": {VTEP: addr("192.0.2.1"), Port: 4799, Members: []netip.Addr{addr("192.0.2.1"), addr("192.0.2.2")},
		MemberAddrs: []netip.Addr{addr("192.0.2.2"), addr("203.0.113.2"), addr("2001:db8:ffff::2")}},
	"ipv6_underlay": {VTEP: addr("2001:db8:ffff::1"), Port: 4799,
		Members: []netip.Addr{addr("2001:db8:ffff::2"), addr("192.0.2.2")}, Networks: []Network{{VNI: 1, Probe: true}}},
	"one_network": {VTEP: addr("192.0.2.1"), Port: 4799, Members: []netip.Addr{addr("192.0.2.2")}, Networks: []Network{{
		VNI: 0x2a, Subnets: []Subnet{subnet("10.42.0.0/24", "10.42.0.1")}, HostAccess: true,
		HostAddrs: []netip.Addr{addr("10.42.0.9")},
		Ports:     []Port{{Endpoint: "0123456789abcdef", MAC: MAC{0x0e, 0, 10, 42, 0, 7}, Addrs: []netip.Addr{addr("10.42.0.7")}}},
	}}},
	"published_ports": {VTEP: addr("192.0.2.1"), Port: 4799, Networks: []Network{
		{VNI: 0x2a, Subnets: []Subnet{subnet("10.42.0.0/24", "10.42.0.1")}, Published: []Publish{
			{Proto: 17, HostAddr: addr("127.0.0.1"), HostPort: 5353, Addr: addr("10.42.0.7"), Port: 53},
			{Proto: 6, HostPort: 8080, Addr: addr("10.42.0.7"), Port: 80},
			{Proto: 6, HostPort: 8081, Addr: addr("10.42.0.8"), Port: 80, Masquerade: true},
			{Proto: 6, HostPort: 8082, Addr: addr("10.42.0.8"), Port: 81, Masquerade: true},
		}},
	}},
	"every_kind_of_network": {VTEP: addr("192.0.2.1"), Port: 8473, Networks: []Network{
		{VNI: 0x2a, Subnets: []Subnet{subnet("10.42.0.0/24", "10.42.0.1"), subnet("2001:db8:42::/64", "2001:db8:42::1")}, HostAccess: true,
			Ports: []Port{{Endpoint: "0123456789abcdef", MAC: MAC{0x0e, 0, 10, 42, 0, 7}, Addrs: []netip.Addr{addr("10.42.0.7"), addr("2001:db8:42::7")}}}},
		{VNI: 0x2b, Subnets: []Subnet{subnet("10.43.0.0/24", "10.43.0.1")}},
		{VNI: 0x2c, Subnets: []Subnet{subnet("10.44.0.0/24", "10.44.0.1")}, HostAccess: true, Internal: true},
		{VNI: 0x2d, Subnets: []Subnet{subnet("10.42.0.128/25", "10.42.0.129")}, HostAccess: true},
	}},
	"questions": {VTEP: addr("192.0.2.1"), Port: 4799, Questions: Questions{Address: true,
		Redirected: []netip.Addr{addr("8.8.8.8"), addr("192.0.2.53"), addr("2001:db8::53")}}},
	"all_questions": {VTEP: addr("192.0.2.1"), Port: 4799, Questions: Questions{All: true, Redirected: []netip.Addr{addr("8.8.8.8")}}},
}

func TestFilterRules(t *testing.T) {
	for name, s := range filterStates {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("testdata", "nft_"+name+".txt")
			got := script(filterObjects(s, facts{bridges: []string{"br-0123456789ab", "docker0"}, uplinks: Uplinks{Devices: []string{"eth0", "eth1"}}}))
			if *writeRules {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("rules differ from %s (-want +got):\n%s", file, diff)
			}
		})
	}
}

// script is what an operator would type for the objects, tables in full.
func script(objects []Object) string {
	var b strings.Builder
	for _, o := range objects {
		if t, ok := o.(NFTable); ok {
			b.WriteString("# " + t.String() + "\nnft -f - <<EOF\n" + t.Text() + "EOF\n")
		} else {
			b.WriteString(o.String() + "\n")
		}
	}
	return b.String()
}

func TestNoTunnelNoFilter(t *testing.T) {
	if got := filterObjects(State{Complete: true}, facts{}); len(got) != 0 {
		t.Errorf("a state without a tunnel address has %d filter objects, want none", len(got))
	}
}

func TestTableStrings(t *testing.T) {
	table := NFTable{Family: "inet", Name: "weft", Rules: "\tset a {\n\t\ttype ifname\n\t}\n\tchain b {\n\t\ttype filter hook input priority 0; policy accept;\n\t\taccept\n\t}\n"}
	for got, want := range map[string]string{
		table.String():   "nft add table inet weft # 1 rules, 79bc7c06",
		table.Deletion(): "nft delete table inet weft",
		NFElement{Place: Fabric, Set: "ports4", Dev: "k01", MAC: MAC{0x0e, 5: 1}, Addr: single(addr("192.0.2.1"))}.Deletion(): `ip netns exec weft nft delete element bridge weft ports4 { "k01" . 0e:00:00:00:00:01 . 192.0.2.1 }`,
		NFElement{Set: "nets6", Addr: netip.MustParsePrefix("2001:db8::/64")}.String():                                        "nft add element inet weft nets6 { 2001:db8::/64 }",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if a, b := table.String(), (NFTable{Family: "inet", Name: "weft", Rules: table.Rules + "\n"}).String(); a == b {
		t.Errorf("tables with different rules have one name: %s", a)
	}
}

// The kernel takes no overlapping intervals, and each subnet must be in one.
func TestSubnetsNeverOverlap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
			return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, rapid.Byte().Draw(t, "b"), rapid.Byte().Draw(t, "c"), 0}),
				rapid.IntRange(8, 32).Draw(t, "bits"))
		})
		wanted := rapid.SliceOf(prefix).Draw(t, "subnets")
		var networks []Network
		for _, p := range wanted {
			networks = append(networks, Network{Subnets: []Subnet{{CIDR: p}}})
		}
		var f filter
		f.subnets(networks)
		var got []netip.Prefix
		for _, o := range f.objects {
			got = append(got, o.(NFElement).Addr)
		}
		for i, a := range got {
			for _, b := range got[i+1:] {
				if a.Overlaps(b) {
					t.Fatalf("%s and %s overlap", a, b)
				}
			}
		}
		for _, p := range wanted {
			covers := func(g netip.Prefix) bool { return g.Bits() <= p.Bits() && g.Contains(p.Addr()) }
			if !slices.ContainsFunc(got, covers) {
				t.Fatalf("%s is in none of %s", p, got)
			}
		}
	})
}

func TestEachObjectHasItsOwnKey(t *testing.T) {
	for name, s := range filterStates {
		seen := map[Key]Object{}
		for _, o := range filterObjects(s, facts{bridges: []string{"docker0"}}) {
			if other := seen[o.Key()]; other != nil {
				t.Errorf("%s: %s and %s have one key", name, o, other)
			}
			seen[o.Key()] = o
		}
	}
}
