package nft

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/overlaytest"
)

var underlays = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}

// nftLab is two fresh namespaces with our tables opened in them.
type nftLab struct {
	host, fabric string
	nft          *Tables
}

func newNFTLab(t testing.TB) *nftLab {
	t.Helper()
	needRoot(t)
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs nft(8)")
	}
	l := &nftLab{host: newNamespace(t), fabric: newNamespace(t)}
	l.nft = openLabTables(t, l.host, l.fabric)
	return l
}

func openLabTables(t testing.TB, host, fabric string) *Tables {
	t.Helper()
	n, err := New(Config{Host: openNetns(t, host), Fabric: openNetns(t, fabric)})
	must(t, err)
	t.Cleanup(func() { must(t, n.Close()) })
	return n
}

func (l *nftLab) put(t testing.TB, objects ...overlay.Object) {
	t.Helper()
	must(t, l.nft.Put(t.Context(), objects...))
}

func (l *nftLab) list(t testing.TB) []overlay.Object {
	t.Helper()
	objects, err := l.nft.List(t.Context())
	must(t, err)
	return objects
}

// same compares objects in any order, as text that people can read.
func same(t testing.TB, want, got []overlay.Object) {
	t.Helper()
	if diff := gocmp.Diff(lines(want), lines(got)); diff != "" {
		t.Errorf("objects differ (-want +got):\n%s", diff)
	}
	for _, o := range want {
		if !slices.Contains(got, o) {
			t.Errorf("%s reads the same but is not equal", o)
		}
	}
}

func lines(objects []overlay.Object) string {
	sorted := slices.Clone(objects)
	slices.SortFunc(sorted, func(a, b overlay.Object) int { return cmp.Compare(a.String(), b.String()) })
	var b strings.Builder
	for _, o := range sorted {
		if t, ok := o.(overlay.NFTable); ok {
			b.WriteString(t.Text())
		}
		b.WriteString(o.String() + "\n")
	}
	return b.String()
}

func TestFilterRoundTrip(t *testing.T) {
	for _, vtep := range underlays {
		for _, s := range overlaytest.States(vtep) {
			t.Run(fmt.Sprintf("%s over IPv%s", s.Name, map[bool]string{true: "4", false: "6"}[vtep.Is4()]), func(t *testing.T) {
				l := newNFTLab(t)
				want := filterOf(t, s.State)
				l.put(t, want...)
				same(t, want, l.list(t))
				l.put(t, want...)
				same(t, want, l.list(t))
				must(t, l.nft.Delete(t.Context(), want...))
				must(t, l.nft.Delete(t.Context(), want...))
				same(t, nil, l.list(t))
			})
		}
	}
}

// taddr was learned by nft(8) after 1.0.6.
var taddr = regexp.MustCompile(`(?m)^.*icmpv6 taddr.*\n`)

// nft(8) and we make the same of one text: a table that it has loaded is adopted
// as it is, and it shows ours as its own.
func TestNFTReadsTheSameText(t *testing.T) {
	for _, s := range overlaytest.States(underlays[0]) {
		t.Run(s.Name, func(t *testing.T) {
			theirs, ours := newNFTLab(t), newNFTLab(t)
			var want []overlay.Object
			var script strings.Builder
			for _, o := range filterOf(t, s.State) {
				if table, ok := o.(overlay.NFTable); ok {
					table.Rules = taddr.ReplaceAllString(table.Rules, "")
					o = table
				}
				want = append(want, o)
			}
			ours.put(t, want...)
			for _, o := range want {
				script.Reset()
				ns := theirs.host
				switch o := o.(type) {
				case overlay.NFTable:
					script.WriteString(o.Text())
					if o.Place == overlay.Fabric {
						ns = theirs.fabric
					}
				case overlay.NFElement:
					command := strings.TrimPrefix(o.String(), "ip netns exec weft ")
					script.WriteString(strings.TrimPrefix(command, "nft "))
					if o.Place == overlay.Fabric {
						ns = theirs.fabric
					}
				}
				sh(t, "ip netns exec %s nft -f - <<'EOF'\n%s\nEOF", ns, &script)
			}
			before := handles(t, theirs.host) + handles(t, theirs.fabric)
			theirs.put(t, want...)
			if diff := gocmp.Diff(before, handles(t, theirs.host)+handles(t, theirs.fabric)); diff != "" {
				t.Errorf("not adopted as it was (-before +after):\n%s", diff)
			}
			same(t, want, theirs.list(t))
			for _, pair := range [][2]string{{theirs.host, ours.host}, {theirs.fabric, ours.fabric}} {
				if diff := gocmp.Diff(shown(t, pair[0]), shown(t, pair[1])); diff != "" {
					t.Errorf("nft list ruleset differs (-made by nft +made by us):\n%s", diff)
				}
			}
		})
	}
}

// handles are the rules with the numbers that they got when they were made.
func handles(t testing.TB, ns string) string {
	return sh(t, "ip netns exec %s nft -a list ruleset", ns)
}

func shown(t testing.TB, ns string) string {
	return sh(t, "ip netns exec %s nft -s list ruleset", ns)
}

// Whatever somebody does to our table is seen, put right again, and nothing
// else is touched.
func TestForeignEdits(t *testing.T) {
	for name, edit := range map[string]string{
		"rule added":              "add rule inet weft forward accept",
		"rule inserted":           "insert rule inet weft in_raw accept",
		"same rule twice":         "add rule inet weft nat_post meta nfproto ipv6 ip6 saddr @nets6 masquerade",
		"rules of a chain gone":   "flush chain inet weft tunnel",
		"all rules gone":          "flush table inet weft",
		"unknown rule":            "add rule inet weft forward limit rate 1/second accept",
		"rule with a socket":      "add rule inet weft dns_in socket wildcard 0 accept",
		"chain added":             "add chain inet weft mine { type filter hook input priority 0; policy drop; }",
		"policy changed":          "add chain inet weft forward { policy drop; }",
		"set added":               "add set inet weft mine { type ipv4_addr; }",
		"map added":               "add map inet weft mine { type ipv4_addr : verdict; }",
		"table asleep":            "add table inet weft { flags dormant; }",
		"policy of another chain": "add chain inet weft input { policy drop; }",
		"range added":             "add element inet weft nets4 { 203.0.113.5-203.0.113.9 }",
		"table gone":              "delete table inet weft",
		"everything gone":         "flush ruleset",
		"element added":           "add element inet weft vteps { 203.0.113.66 }",
		"element deleted":         "delete element inet weft vteps { 192.0.2.2 }",
		"members gone":            "flush set inet weft vteps",
		"subnet deleted":          "delete element inet weft nets4 { 10.64.0.0/24 }",
		"edited table in the way": "delete table inet weft; add table inet weft; add set inet weft vteps { type ipv6_addr; }",
	} {
		t.Run(name, func(t *testing.T) {
			l := newNFTLab(t)
			want := filterOf(t, stateNamed(t, "one network with a local endpoint"))
			l.put(t, want...)
			sh(t, "ip netns exec %s nft add table inet other", l.host)
			sh(t, "ip netns exec %s nft '%s'", l.host, edit)
			got := l.list(t)
			if lines(got) == lines(want) {
				t.Fatalf("nothing to be seen of: %s", edit)
			}
			must(t, l.repair(t, want, got))
			same(t, want, l.list(t))
			if name != "everything gone" {
				contains(t, shown(t, l.host), "table inet other")
			}
		})
	}
}

// repair does what the reconciler does: tables, then elements, then what is too
// much.
func (l *nftLab) repair(t testing.TB, want, got []overlay.Object) error {
	var tables, elements, extra []overlay.Object
	for _, o := range want {
		if slices.Contains(got, o) {
			continue
		}
		if o.Rank() == overlay.RankTable {
			tables = append(tables, o)
		} else {
			elements = append(elements, o)
		}
	}
	for _, o := range got {
		if o.Rank() == overlay.RankElement && !slices.Contains(want, o) {
			extra = append(extra, o)
		}
	}
	return errors.Join(l.nft.Put(t.Context(), tables...), l.nft.Put(t.Context(), elements...), l.nft.Delete(t.Context(), extra...))
}

func TestTableIsReplacedWithItsElements(t *testing.T) {
	l := newNFTLab(t)
	want := filterOf(t, stateNamed(t, "one network with a local endpoint"))
	l.put(t, want...)
	moved := filterOf(t, stateNamed(t, "another tunnel port"))
	l.put(t, tablesAsObjects(moved)...)
	for _, o := range l.list(t) {
		if o.Rank() == overlay.RankElement && !slices.Contains(want, o) {
			t.Errorf("new element %s", o)
		}
	}
	if got, want := len(l.list(t)), len(want); got != want {
		t.Errorf("%d objects after the table was replaced, want %d", got, want)
	}
}

func tablesAsObjects(objects []overlay.Object) (tables []overlay.Object) {
	for _, t := range tablesOf(objects) {
		tables = append(tables, t)
	}
	return tables
}

func vtepElement(a netip.Addr) overlay.NFElement {
	return overlay.NFElement{Set: "vteps", Addr: netip.PrefixFrom(a, a.BitLen())}
}

func TestFailedElementIsNamedAndAlone(t *testing.T) {
	l := newNFTLab(t)
	table := filterOf(t, stateNamed(t, "member of no network"))
	l.put(t, table...)
	var objects, fine []overlay.Object
	for i := range 1200 {
		e := vtepElement(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}))
		objects, fine = append(objects, e), append(fine, e)
	}
	misplaced := overlay.NFElement{Set: "vteps", Addr: netip.MustParsePrefix("2001:db8::2/128")}
	lost := overlay.NFElement{Set: "nowhere", Dev: "g000001"}
	objects = slices.Insert(objects, 700, overlay.Object(misplaced), overlay.Object(lost))
	err := l.nft.Put(t.Context(), objects...)
	for _, o := range []overlay.Object{misplaced, lost} {
		if err == nil || !strings.Contains(err.Error(), o.String()) {
			t.Errorf("error %v does not name %s", err, o)
		}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v, want one about a set that does not exist", err)
	}
	// The kernel grows the set in the background, and a dump meanwhile may miss
	// elements that are there.
	want := append(fine, table...)
	got := l.list(t)
	for deadline := time.Now().Add(5 * time.Second); len(got) != len(want) && time.Now().Before(deadline); {
		got = l.list(t)
	}
	same(t, want, got)
}

func TestRejectedElementIsFoundInItsBatch(t *testing.T) {
	l := newNFTLab(t)
	// A set that is full refuses a whole batch: all that fit go in one by one.
	sh(t, "ip netns exec %s nft 'add table inet weft; add set inet weft vteps { type ipv4_addr; size 3; }'", l.host)
	var objects []overlay.Object
	for i := range byte(5) {
		objects = append(objects, vtepElement(netip.AddrFrom4([4]byte{198, 51, 100, i})))
	}
	err := l.nft.Put(t.Context(), objects...)
	var failed *overlay.ObjectError
	if !errors.As(err, &failed) || failed.Deleting {
		t.Fatalf("got error %v, want an ObjectError", err)
	}
	if n := strings.Count(err.Error(), "nft add element"); n != 2 {
		t.Errorf("%d elements failed, want 2:\n%v", n, err)
	}
	if n := len(l.list(t)); n != 1+3 {
		t.Errorf("the kernel has %d objects, want the table and three elements", n)
	}
}

func TestTableThatCannotBeReadIsNotInstalled(t *testing.T) {
	l := newNFTLab(t)
	want := filterOf(t, stateNamed(t, "member of no network"))
	l.put(t, want...)
	tables := tablesOf(want)
	broken := tables[slices.IndexFunc(tables, func(t overlay.NFTable) bool { return t.Place == overlay.Host })]
	broken.Rules = strings.Replace(broken.Rules, "\tchain forward {\n", "\tchain forward {\n\t\tmake haste\n", 1)
	err := l.nft.Put(t.Context(), broken)
	if err == nil || !strings.Contains(err.Error(), "make haste") {
		t.Errorf("got error %v, want one about the rule", err)
	}
	same(t, want, l.list(t))
	l.put(t, want...) // nothing of the failed attempt is left in the next one
	same(t, want, l.list(t))
}

func TestSubnetThatGrows(t *testing.T) {
	l := newNFTLab(t)
	subnet := func(s string) overlay.NFElement {
		return overlay.NFElement{Set: "nets4", Addr: netip.MustParsePrefix(s)}
	}
	table := filterOf(t, stateNamed(t, "member of no network"))
	before := append(slices.Clone(table), subnet("10.1.0.0/24"), subnet("10.1.2.0/24"), subnet("10.9.0.0/24"))
	l.put(t, before...)
	l.put(t, subnet("10.1.0.0/16"))
	same(t, append(slices.Clone(table), subnet("10.1.0.0/16"), subnet("10.9.0.0/24")), l.list(t))
	must(t, l.nft.Delete(t.Context(), subnet("10.1.0.0/24"), subnet("10.1.2.0/24")))
	l.put(t, subnet("10.1.7.0/24"))
	same(t, append(slices.Clone(table), subnet("10.1.7.0/24"), subnet("10.9.0.0/24")), l.list(t))
}

// An element that cannot come along does not keep its table out.
func TestTableWithAnElementInTheWay(t *testing.T) {
	l := newNFTLab(t)
	table := filterOf(t, stateNamed(t, "member of no network"))
	small := overlay.NFElement{Set: "nets4", Addr: netip.MustParsePrefix("10.1.0.0/24")}
	large := overlay.NFElement{Set: "nets4", Addr: netip.MustParsePrefix("10.1.0.0/16")}
	l.put(t, append(slices.Clone(table), small)...)
	sh(t, "ip netns exec %s nft flush table inet weft", l.host)
	l.put(t, append(slices.Clone(table), large)...)
	same(t, append(slices.Clone(table), large), l.list(t))
}

func TestThousandsOfElements(t *testing.T) {
	l := newNFTLab(t)
	table := filterOf(t, stateNamed(t, "member of no network"))
	l.put(t, table...)
	const n = 5000
	var elements []overlay.Object
	for i := range n {
		elements = append(elements, overlay.NFElement{
			Place: overlay.Fabric, Set: "ports6", Dev: fmt.Sprintf("k%012x", i), MAC: overlay.MAC{0x0e, 5: byte(i)},
			Addr: netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 14: byte(i >> 8), 15: byte(i)}), 128),
		})
	}
	timed := func(what string, f func() error) {
		start := time.Now()
		must(t, f())
		t.Logf("%s: %v", what, time.Since(start).Round(time.Millisecond))
	}
	timed("put 5000 elements", func() error { return l.nft.Put(t.Context(), elements...) })
	timed("put them again", func() error { return l.nft.Put(t.Context(), elements...) })
	all := append(slices.Clone(table), elements...)
	var got []overlay.Object
	timed("list them", func() (err error) { got, err = l.nft.List(t.Context()); return err })
	same(t, all, got)
	timed("replace the tables with them", func() error { return l.nft.Put(t.Context(), table...) })
	same(t, all, l.list(t))
	timed("delete them", func() error { return l.nft.Delete(t.Context(), elements...) })
	same(t, table, l.list(t))
	timed("put tables and elements in one", func() error { return l.nft.Put(t.Context(), all...) })
	same(t, all, l.list(t))
}

func TestCancelledPutStops(t *testing.T) {
	l := newNFTLab(t)
	table := filterOf(t, stateNamed(t, "member of no network"))
	l.put(t, table...)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.nft.Put(ctx, vtepElement(netip.MustParseAddr("198.51.100.1"))); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want context.Canceled", err)
	}
	same(t, table, l.list(t))
}
