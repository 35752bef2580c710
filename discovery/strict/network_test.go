package strict

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/discovery"
)

// blue is a network that every host can carry.
func blue() discovery.Network {
	return discovery.Network{
		ID: discovery.NetworkID{1}, Name: "blue", VNI: 4096, State: discovery.NetworkUp, Driver: "weft",
		Subnets: []discovery.Subnet{{CIDR: netip.MustParsePrefix("10.80.0.0/24"), Gateway: netip.MustParseAddr("10.80.0.1"), Bits: 3}},
		Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), By: "one",
	}
}

func TestNetwork(t *testing.T) {
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	many := func(n int) map[string]string {
		out := map[string]string{}
		for i := range n {
			out[fmt.Sprint("k", i)] = ""
		}
		return out
	}
	for name, tt := range map[string]struct {
		change func(*discovery.Network)
		want   string // in the error; empty: it is good
	}{
		"as it is": {func(*discovery.Network) {}, ""},
		"with all": {func(n *discovery.Network) {
			n.MTU, n.Options = 1400, map[string]string{"mtu": "1400", "host_access": "full"}
		}, ""},
		"both families":        {func(n *discovery.Network) { n.Subnets = append(n.Subnets, v6()) }, ""},
		"a path":               {func(n *discovery.Network) { n.Name = "../../tmp/x" }, "no name for a network"},
		"a newline":            {func(n *discovery.Network) { n.Name = "x\nnameserver 192.0.2.66" }, `"x\nnameserver`},
		"an underscore first":  {func(n *discovery.Network) { n.Name = "_x" }, "no name for a network"},
		"a reserved name":      {func(n *discovery.Network) { n.Name = "host" }, "meaning of its own"},
		"upper case":           {func(n *discovery.Network) { n.Name = "Blue" }, "lower case"},
		"no name":              {func(n *discovery.Network) { n.Name = "" }, "no name for a network"},
		"no id":                {func(n *discovery.Network) { n.ID = discovery.NetworkID{} }, "no id"},
		"vni 0":                {func(n *discovery.Network) { n.VNI = 0 }, "vni 0"},
		"a vni of 32 bits":     {func(n *discovery.Network) { n.VNI = 1<<32 - 1 }, "vni 4294967295"},
		"a vni of 25 bits":     {func(n *discovery.Network) { n.VNI = 1 << 24 }, "vni 16777216"},
		"the probes' vni":      {func(n *discovery.Network) { n.VNI = discovery.ProbeVNI }, "probes"},
		"no state":             {func(n *discovery.Network) { n.State = "" }, "state"},
		"a negative mtu":       {func(n *discovery.Network) { n.MTU = -5 }, "mtu -5"},
		"a small mtu":          {func(n *discovery.Network) { n.MTU = 575 }, "mtu 575"},
		"a large mtu":          {func(n *discovery.Network) { n.MTU = 65535 }, "mtu 65535"},
		"another driver":       {func(n *discovery.Network) { n.Driver = "macvlan" }, "macvlan"},
		"an unknown option":    {func(n *discovery.Network) { n.Options = map[string]string{"encrypt": "true"} }, "-o encrypt"},
		"host_access":          {func(n *discovery.Network) { n.Options = map[string]string{"host_access": "all"} }, "none, local or full"},
		"too many labels":      {func(n *discovery.Network) { n.Labels = many(200) }, "200 labels"},
		"a label's key":        {func(n *discovery.Network) { n.Labels = map[string]string{"a\nb": ""} }, "label"},
		"a long label":         {func(n *discovery.Network) { n.Labels = map[string]string{"a": strings.Repeat("b", 5000)} }, "label a"},
		"by a line":            {func(n *discovery.Network) { n.By = "root\x1b[2J" }, "created by"},
		"no subnet":            {func(n *discovery.Network) { n.Subnets = nil }, "no subnet"},
		"an empty subnet":      {func(n *discovery.Network) { n.Subnets[0].CIDR = netip.Prefix{} }, "missing"},
		"two of a family":      {func(n *discovery.Network) { n.Subnets = append(n.Subnets, n.Subnets[0]) }, "has 10.80.0.0/24 already"},
		"IPv6 first":           {func(n *discovery.Network) { n.Subnets = []discovery.Subnet{v6(), n.Subnets[0]} }, "before"},
		"host bits":            {func(n *discovery.Network) { n.Subnets[0].CIDR = prefix("10.80.0.9/24") }, "did you mean 10.80.0.0/24"},
		"everything":           {func(n *discovery.Network) { n.Subnets[0].CIDR = prefix("0.0.0.0/0") }, "too large"},
		"one address":          {func(n *discovery.Network) { n.Subnets[0].CIDR = prefix("10.80.0.1/32") }, "too small"},
		"loopback":             {func(n *discovery.Network) { n.Subnets[0].CIDR = prefix("127.0.0.0/16") }, "loopback"},
		"multicast":            {func(n *discovery.Network) { n.Subnets[0].CIDR = prefix("224.0.0.0/16") }, "multicast"},
		"no gateway":           {func(n *discovery.Network) { n.Subnets[0].Gateway = netip.Addr{} }, "gateway"},
		"a foreign gateway":    {func(n *discovery.Network) { n.Subnets[0].Gateway = addr("10.81.0.1") }, "gateway 10.81.0.1"},
		"the broadcast":        {func(n *discovery.Network) { n.Subnets[0].Gateway = addr("10.80.0.255") }, "broadcast"},
		"large blocks":         {func(n *discovery.Network) { n.Subnets[0].Bits = 24 }, "2^24"},
		"negative blocks":      {func(n *discovery.Network) { n.Subnets[0].Bits = -1 }, "2^-1"},
		"a foreign range":      {func(n *discovery.Network) { n.Subnets[0].Range = prefix("10.81.0.0/25") }, "range"},
		"a larger range":       {func(n *discovery.Network) { n.Subnets[0].Range = prefix("10.80.0.0/16") }, "range"},
		"an unusable range":    {func(n *discovery.Network) { n.Subnets[0].Range = prefix("10.80.0.1/32") }, "no address"},
		"a foreign aux":        {func(n *discovery.Network) { n.Subnets[0].Aux = map[string]netip.Addr{"a": addr("10.81.0.1")} }, "auxiliary"},
		"the gateway as aux":   {func(n *discovery.Network) { n.Subnets[0].Aux = map[string]netip.Addr{"a": addr("10.80.0.1")} }, "is the gateway"},
		"an aux without value": {func(n *discovery.Network) { n.Subnets[0].Aux = map[string]netip.Addr{"a": {}} }, "auxiliary"},
	} {
		n := blue()
		tt.change(&n)
		err := Network(n)
		if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || !errors.Is(err, ErrInvalid)) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%s: the error is not one line: %q", name, err)
		}
	}
}

func v6() discovery.Subnet {
	p := netip.MustParsePrefix("2001:db8::/64")
	return discovery.Subnet{CIDR: p, Gateway: p.Addr().Next(), Bits: discovery.BlockBits(p)}
}

// Of two that cannot be together every host takes the same one.
func TestNetworksThatCannotBeTogether(t *testing.T) {
	at := func(name string, id byte, vni uint32, cidr string, age time.Duration) discovery.Network {
		n := blue()
		n.Name, n.ID, n.VNI, n.Created = name, discovery.NetworkID{id}, vni, n.Created.Add(-age)
		p := netip.MustParsePrefix(cidr)
		n.Subnets = []discovery.Subnet{{CIDR: p, Gateway: p.Addr().Next(), Bits: 3}}
		return n
	}
	isolated := func(n discovery.Network) discovery.Network {
		n.Internal, n.Options = true, map[string]string{"host_access": "none"}
		return n
	}
	first := at("first", 9, 4096, "10.80.0.0/24", time.Hour)
	underlay := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	for name, tt := range map[string]struct {
		known, others []discovery.Network
		good          []string
	}{
		"all different":    {nil, []discovery.Network{at("b", 2, 4097, "10.81.0.0/24", 0), first}, []string{"first", "b"}},
		"one vni":          {nil, []discovery.Network{at("b", 2, 4096, "10.81.0.0/24", 0), first}, []string{"first"}},
		"one subnet":       {nil, []discovery.Network{at("b", 2, 4097, "10.80.0.128/25", 0), first}, []string{"first"}},
		"one id":           {nil, []discovery.Network{at("b", 9, 4097, "10.81.0.0/24", 0), first}, []string{"first"}},
		"one name":         {nil, []discovery.Network{at("first", 2, 4097, "10.81.0.0/24", 0), first}, []string{"first"}},
		"of one age":       {nil, []discovery.Network{at("b", 8, 4096, "10.81.0.0/24", time.Hour), first}, []string{"b"}},
		"both isolated":    {nil, []discovery.Network{isolated(at("b", 2, 4097, "10.80.0.0/24", 0)), isolated(first)}, []string{"first", "b"}},
		"over a member":    {nil, []discovery.Network{at("b", 2, 4097, "192.0.2.128/25", 0), first}, []string{"first"}},
		"over all members": {nil, []discovery.Network{at("b", 2, 4097, "192.0.0.0/16", 0), first}, []string{"first"}},
		// What is carried stays, whatever else claims to be older.
		"one that is known":         {[]discovery.Network{first}, []discovery.Network{at("b", 2, 4096, "10.80.0.0/16", 24*time.Hour)}, []string{"first"}},
		"known, and under a member": {[]discovery.Network{at("b", 2, 4097, "192.0.2.128/25", 0)}, nil, []string{"b"}},
		"another vni of one known":  {[]discovery.Network{first}, []discovery.Network{at("first", 9, 5000, "10.80.0.0/24", time.Hour)}, []string{"first"}},
	} {
		for _, others := range [][]discovery.Network{tt.others, reversed(tt.others)} {
			good, clashes := Networks(tt.known, others, underlay)
			var got []string
			for _, n := range good {
				got = append(got, n.Name)
			}
			if !slices.Equal(got, tt.good) || len(good)+len(clashes) != len(tt.known)+len(others) {
				t.Errorf("%s: got %q and %v, want %q", name, got, clashes, tt.good)
			}
			for _, c := range clashes {
				if c.Why == "" {
					t.Errorf("%s: %s is refused without a word", name, c.Name)
				}
			}
		}
	}
}

func reversed(all []discovery.Network) []discovery.Network {
	all = slices.Clone(all)
	slices.Reverse(all)
	return all
}

// FuzzNetwork: of whatever a store holds, what passes is harmless.
func FuzzNetwork(f *testing.F) {
	for _, n := range []discovery.Network{blue(), {}, {Name: "../x", VNI: 1<<32 - 1, MTU: -5}} {
		b, err := json.Marshal(n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"subnets":[{"cidr":"10.0.0.0/8","gateway":"10.0.0.1","block_bits":-9223372036854775808,"ip_range":"::/0"}]}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		var n discovery.Network
		if json.Unmarshal(value, &n) != nil {
			return
		}
		if err := Network(n); err != nil {
			if !errors.Is(err, ErrInvalid) || !plain(err.Error()) {
				t.Errorf("error %q", err)
			}
			return
		}
		if filepath.Base(n.Name) != n.Name || strings.ContainsAny(n.Name, " .\n") || n.VNI == 0 || n.VNI > maxVNI {
			t.Errorf("%+v passed", n)
		}
		for _, s := range n.Subnets {
			if s.Blocks() == 0 || !s.Claimable(s.BlockOf(anyUsable(s))) || !s.CIDR.Contains(s.Gateway) {
				t.Errorf("%+v has no place for a block", s)
			}
		}
		if good, clashes := Networks(nil, []discovery.Network{n, n}, nil); len(good) != 1 || len(clashes) != 1 {
			t.Errorf("beside itself: %v, %v", good, clashes)
		}
	})
}

// anyUsable is an address that an endpoint may have.
func anyUsable(s discovery.Subnet) netip.Addr {
	within := s.CIDR
	if s.Range.IsValid() {
		within = s.Range
	}
	for a := range s.Usable(within) {
		return a
	}
	return netip.Addr{}
}
