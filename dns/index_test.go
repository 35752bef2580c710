package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// contents is an index as plain maps.
type contents struct {
	Names map[string]entry
	Addrs map[netip.Addr][]string
}

func contentsOf(x *index) contents {
	c := contents{map[string]entry{}, map[netip.Addr][]string{}}
	for k, e := range x.names.all() {
		// Endpoints of one name and address stand in the order that they came.
		e := *e
		e.members = slices.SortedFunc(slices.Values(e.members), func(a, b Name) int {
			return byText(fmt.Sprintf("%+v", a), fmt.Sprintf("%+v", b))
		})
		c.Names[k] = e
	}
	for a, names := range x.addrs.all() {
		c.Addrs[a] = names
	}
	return c
}

func byText(a, b string) int {
	if a < b {
		return -1
	}
	return 1
}

var compareContents = cmp.Options{
	cmp.AllowUnexported(entry{}, hit{}), cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
}

func drawNames(t *rapid.T, label string) []Name {
	name := rapid.SampledFrom([]string{"a", "b", "A", "a.b", "x.a.b", "c", "bad name"})
	addr := rapid.Custom(func(t *rapid.T) netip.Addr {
		return netip.AddrFrom4([4]byte{192, 0, 2, rapid.ByteRange(1, 5).Draw(t, "addr")})
	})
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Name {
		return Name{
			Name: name.Draw(t, "name"), Aliases: rapid.SliceOfN(name, 0, 2).Draw(t, "aliases"),
			Addrs:   rapid.SliceOfN(addr, 1, 2).Draw(t, "addrs"),
			Unready: rapid.Bool().Draw(t, "unready"), Here: rapid.Bool().Draw(t, "here"),
		}
	}), 0, 8).Draw(t, label)
}

func TestIndexThatWasChangedEqualsANewOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var x *index
		for step := range rapid.IntRange(1, 5).Draw(t, "steps") {
			names := drawNames(t, fmt.Sprintf("step %d", step))
			if rapid.Bool().Draw(t, "sorted") {
				slices.SortFunc(names, func(a, b Name) int { return byText(a.Name, b.Name) })
			}
			x = newIndex(Network{Name: "blue", Names: names}, x)
			fresh := newIndex(Network{Name: "blue", Names: names}, nil)
			if d := cmp.Diff(contentsOf(fresh), contentsOf(x), compareContents); d != "" {
				t.Fatalf("new (-), changed (+):\n%s", d)
			}
		}
	})
}

func TestIndexBeforeAChangeStaysAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := newIndex(Network{Name: "blue", Names: drawNames(t, "before")}, nil)
		before := contentsOf(x)
		newIndex(Network{Name: "blue", Names: drawNames(t, "after")}, x)
		if d := cmp.Diff(before, contentsOf(x), compareContents); d != "" {
			t.Fatal(d)
		}
	})
}

func TestDiffOfSortedNamesIsMinimal(t *testing.T) {
	names := func(list ...string) (out []Name) {
		for i, n := range list {
			out = append(out, Name{Name: n, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})}})
		}
		return out
	}
	old := names("a", "b", "c", "d")
	now := slices.Clone(old)
	now = slices.Delete(now, 1, 2)
	now[1].Unready = true
	now = append(now, Name{Name: "e"})
	gone, come := diffNames(old, now)
	want := [2][]string{{"b", "c"}, {"c", "e"}}
	got := [2][]string{namesOf(gone), namesOf(come)}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func namesOf(list []Name) (out []string) {
	for _, n := range list {
		out = append(out, n.Name)
	}
	return out
}

func TestReversePrefix(t *testing.T) {
	for name, want := range map[string]string{
		"1.2.0.192.in-addr.arpa":   "192.0.2.1/32",
		"0.192.in-addr.arpa":       "192.0.0.0/16",
		"in-addr.arpa":             "",
		"01.2.0.192.in-addr.arpa":  "",
		"256.2.0.192.in-addr.arpa": "",
		"1.1.2.0.192.in-addr.arpa": "",
		"x.in-addr.arpa":           "",
		"+1.in-addr.arpa":          "",
		"8.b.d.0.1.0.0.2.ip6.arpa": "2001:db8::/32",
		"10.ip6.arpa":              "",
		reverseSix:                 "2001:db8::6/128",
		"0." + reverseSix:          "",
		"web.blue.weft.internal":   "",
	} {
		got := ""
		if p, ok := reversePrefix(name); ok {
			got = p.String()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestReverseZoneHoldsTheNameAndOnlyItsSubnet(t *testing.T) {
	for _, tt := range []struct{ name, subnet, want string }{
		{"1.2.0.192.in-addr.arpa", "192.0.2.0/24", "2.0.192.in-addr.arpa"},
		{"1.2.64.10.in-addr.arpa", "10.64.0.0/20", "2.64.10.in-addr.arpa"},
		{"1.2.64.10.in-addr.arpa", "10.0.0.0/8", "10.in-addr.arpa"},
		{"1.2.0.192.in-addr.arpa", "192.0.2.0/25", "1.2.0.192.in-addr.arpa"},
		{reverseSix, "2001:db8::/32", "8.b.d.0.1.0.0.2.ip6.arpa"},
	} {
		if got := reverseZone(tt.name, netip.MustParsePrefix(tt.subnet)); got != tt.want {
			t.Errorf("%s in %s: got %s, want %s", tt.name, tt.subnet, got, tt.want)
		}
	}
}

// manyNames returns n endpoints of one network, sorted by name.
func manyNames(n int) []Name {
	names := make([]Name, n)
	for i := range names {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		names[i] = Name{Name: fmt.Sprintf("web-%05d", i), Aliases: []string{fmt.Sprintf("alias-%05d", i)}, Addrs: []netip.Addr{a}}
	}
	return names
}

// copied is what a caller hands over that makes its zone anew each time.
func copied(names []Name) []Name {
	out := slices.Clone(names)
	for i := range out {
		out[i].Aliases, out[i].Addrs = slices.Clone(out[i].Aliases), slices.Clone(out[i].Addrs)
	}
	return out
}

func BenchmarkSet10k(b *testing.B) {
	base := testZone()
	base.Networks = base.Networks[:1]
	base.Networks[0].Device = ""
	names := manyNames(10_000)
	zoneOf := func(names []Name) Zone {
		z := base
		z.Networks = []Network{base.Networks[0]}
		z.Networks[0].Names = names
		return z
	}
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			New(Config{}).Set(zoneOf(names))
		}
	})
	b.Run("same slice", func(b *testing.B) {
		s := New(Config{})
		for b.Loop() {
			s.Set(zoneOf(names))
		}
	})
	b.Run("equal slice", func(b *testing.B) {
		s, twice := New(Config{}), [][]Name{names, copied(names)}
		for i := 0; b.Loop(); i++ {
			s.Set(zoneOf(twice[i%2]))
		}
	})
	b.Run("one endpoint more or less", func(b *testing.B) {
		s, twice := New(Config{}), [][]Name{names, slices.Delete(copied(names), 5000, 5001)}
		for i := 0; b.Loop(); i++ {
			s.Set(zoneOf(twice[i%2]))
		}
	})
}

func BenchmarkAnswer(b *testing.B) {
	z := testZone()
	z.Networks[0].Names = manyNames(10_000)
	v := newView(z, &view{}, true)
	scope := v.clients[source{"g1", addrs("192.0.2.10")[0]}]
	for _, name := range []string{"web-05000", "web-05000.blue.weft.internal", "nope.blue.weft.internal", "example.com"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				v.answer(question{name, 1}, scope)
			}
		})
	}
}

func BenchmarkSetOfOneNameWith10kAddresses(b *testing.B) {
	names := manyNames(10_000)
	for i := range names {
		names[i].Name, names[i].Aliases = "web", nil
	}
	for b.Loop() {
		newIndex(Network{Names: nil}, newIndex(Network{Names: names}, nil))
	}
}
