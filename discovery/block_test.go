package discovery

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

func TestBlockBits(t *testing.T) {
	for cidr, want := range map[string]int{
		"198.18.0.0/15": 6, "198.18.0.0/16": 6, "198.18.0.0/18": 6, "198.18.0.0/20": 5, "192.0.2.0/24": 3,
		"192.0.2.0/26": 2, "192.0.2.0/28": 1, "192.0.2.0/29": 0, "192.0.2.0/30": 0, "192.0.2.0/32": 0,
		"2001:db8::/48": 16, "2001:db8::/64": 16, "2001:db8::/96": 15, "2001:db8::/112": 7, "2001:db8::/126": 0,
	} {
		if got := BlockBits(prefix(cidr)); got != want {
			t.Errorf("%s: got %d, want %d", cidr, got, want)
		}
	}
}

func TestBlocksOfASubnet(t *testing.T) {
	aux := map[string]netip.Addr{"printer": addr("192.0.2.9"), "same": addr("192.0.2.1"), "elsewhere": addr("198.51.100.1")}
	for name, c := range map[string]struct {
		s      Subnet
		blocks uint64
		first  string
		last   string
		usable uint64 // of the first block
	}{
		"a /24":                      {Subnet{CIDR: prefix("192.0.2.0/24"), Gateway: addr("192.0.2.1"), Bits: 3}, 32, "192.0.2.0/29", "192.0.2.248/29", 6},
		"auxiliary addresses":        {Subnet{CIDR: prefix("192.0.2.0/24"), Gateway: addr("192.0.2.1"), Bits: 4, Aux: aux}, 16, "192.0.2.0/28", "192.0.2.240/28", 13},
		"host bits in the CIDR":      {Subnet{CIDR: prefix("192.0.2.77/24"), Gateway: addr("192.0.2.1"), Bits: 3}, 32, "192.0.2.0/29", "192.0.2.248/29", 6},
		"a range":                    {Subnet{CIDR: prefix("192.0.2.0/24"), Gateway: addr("192.0.2.1"), Bits: 3, Range: prefix("192.0.2.128/26")}, 8, "192.0.2.128/29", "192.0.2.184/29", 8},
		"a range below a block":      {Subnet{CIDR: prefix("198.18.0.0/16"), Gateway: addr("198.18.0.1"), Bits: 6, Range: prefix("198.18.9.16/28")}, 1, "198.18.9.16/28", "198.18.9.16/28", 16},
		"single addresses":           {Subnet{CIDR: prefix("192.0.2.0/29"), Gateway: addr("192.0.2.1")}, 8, "192.0.2.0/32", "192.0.2.7/32", 0},
		"point to point has no ends": {Subnet{CIDR: prefix("192.0.2.0/31"), Gateway: addr("192.0.2.1")}, 2, "192.0.2.0/32", "192.0.2.1/32", 1},
		"a /64":                      {Subnet{CIDR: prefix("2001:db8::/64"), Gateway: addr("2001:db8::1"), Bits: 16}, 1 << 48, "2001:db8::/112", "2001:db8::ffff:ffff:ffff:0/112", 65534},
		"a /32 of IPv6":              {Subnet{CIDR: prefix("2001:db8::/32"), Gateway: addr("2001:db8::1"), Bits: 16}, 1 << 63, "2001:db8::/112", "2001:db8:0:7fff:ffff:ffff:ffff:0/112", 65534},
	} {
		if got := c.s.Blocks(); got != c.blocks {
			t.Errorf("%s: %d blocks, want %d", name, got, c.blocks)
		}
		if got := c.s.Block(0); got != prefix(c.first) {
			t.Errorf("%s: first %s, want %s", name, got, c.first)
		}
		if got := c.s.Block(c.blocks - 1); got != prefix(c.last) {
			t.Errorf("%s: last %s, want %s", name, got, c.last)
		}
		if got := c.s.Block(c.blocks); got.IsValid() {
			t.Errorf("%s: after the last comes %s", name, got)
		}
		if got := c.s.UsableCount(c.s.Block(0)); got != c.usable {
			t.Errorf("%s: %d usable in the first, want %d", name, got, c.usable)
		}
		if got := c.s.Claimable(c.s.Block(0)); got != (c.usable > 0) {
			t.Errorf("%s: first block claimable: %v", name, got)
		}
	}
}

func TestRoomOfASubnet(t *testing.T) {
	for name, c := range map[string]struct {
		s    Subnet
		want uint64
	}{
		"a /24":               {Subnet{CIDR: prefix("192.0.2.0/24"), Gateway: addr("192.0.2.1")}, 253},
		"with an own address": {Subnet{CIDR: prefix("192.0.2.0/24"), Gateway: addr("192.0.2.1"), Aux: map[string]netip.Addr{"a": addr("192.0.2.9")}}, 252},
		"a part of it":        {Subnet{CIDR: prefix("192.0.2.0/24"), Gateway: addr("192.0.2.1"), Range: prefix("192.0.2.64/26")}, 64},
		"a /64":               {Subnet{CIDR: prefix("2001:db8::/64"), Gateway: addr("2001:db8::1")}, 1<<63 - 2},
	} {
		if got := c.s.Room(); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestUsableSkipsTheNetworksOwn(t *testing.T) {
	s := Subnet{CIDR: prefix("192.0.2.0/28"), Gateway: addr("192.0.2.1"), Bits: 1, Aux: map[string]netip.Addr{"a": addr("192.0.2.5")}}
	var got []string
	for a := range s.Usable(s.CIDR) {
		got = append(got, a.String())
		if len(got) == 4 {
			break
		}
	}
	if d := cmp.Diff([]string{"192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.6"}, got); d != "" {
		t.Error(d)
	}
	all := slices.Collect(s.Usable(s.CIDR))
	if last := all[len(all)-1]; last != addr("192.0.2.14") {
		t.Errorf("last usable %s, want the one before broadcast", last)
	}
	for _, b := range []netip.Prefix{prefix("192.0.2.0/29"), prefix("192.0.2.1/31"), prefix("192.0.2.0/31"), prefix("198.51.100.0/31")} {
		if s.Claimable(b) {
			t.Errorf("%s can be claimed: not of the grid, or without an address", b)
		}
	}
	v6 := Subnet{CIDR: prefix("2001:db8::/126"), Gateway: addr("2001:db8::1")}
	if d := cmp.Diff([]netip.Addr{addr("2001:db8::2"), addr("2001:db8::3")}, slices.Collect(v6.Usable(v6.CIDR)), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Error(d)
	}
}

// TestGridPartitionsTheSubnet: every address has one covering block, counting
// and enumerating agree, and no block leaves the range.
func TestGridPartitionsTheSubnet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base, most := addr("198.18.0.0"), 32
		if rapid.Bool().Draw(t, "v6") {
			base, most = addr("2001:db8::"), 128
		}
		length := rapid.IntRange(most-12, most).Draw(t, "length")
		at := rapid.Uint64Range(0, 1<<12-1).Draw(t, "at")
		s := Subnet{CIDR: netip.PrefixFrom(base, length), Gateway: addrPlus(base, at%(1<<(most-length)), 0)}
		s.Bits = rapid.IntRange(0, 6).Draw(t, "bits")
		s.Bits = min(s.Bits, most-length)
		if rapid.Bool().Draw(t, "range") {
			inside := addrPlus(base, rapid.Uint64Range(0, 1<<(most-length)-1).Draw(t, "inside"), 0)
			s.Range = netip.PrefixFrom(inside, rapid.IntRange(length, most).Draw(t, "range length")).Masked()
		}
		seen := map[netip.Addr]bool{}
		for i := range s.Blocks() {
			b, n := s.Block(i), uint64(0)
			if b != b.Masked() || !s.pool().Contains(b.Addr()) || b.Bits() < s.pool().Bits() {
				t.Fatalf("block %d is %s, the range %s", i, b, s.pool())
			}
			for a := range s.Usable(b) {
				if n++; seen[a] || s.BlockOf(a) != b || !s.Assignable(a) {
					t.Fatalf("%s of block %s: seen %v, covered by %s", a, b, seen[a], s.BlockOf(a))
				}
				seen[a] = true
			}
			if n != s.UsableCount(b) {
				t.Fatalf("block %s has %d usable addresses, counted %d", b, n, s.UsableCount(b))
			}
		}
		for a := s.pool().Addr(); s.pool().Contains(a); a = a.Next() {
			if s.Assignable(a) != seen[a] {
				t.Fatalf("%s: assignable %v, in a block %v", a, s.Assignable(a), seen[a])
			}
		}
	})
}

func TestBlockOfAnAddressOutside(t *testing.T) {
	s := Subnet{CIDR: prefix("192.0.2.0/24"), Bits: 3}
	if got := s.BlockOf(addr("198.51.100.1")); got.IsValid() {
		t.Errorf("got %s, want none", got)
	}
	if got := s.BlockOf(addr("192.0.2.77")); got != prefix("192.0.2.72/29") {
		t.Errorf("got %s", got)
	}
}
