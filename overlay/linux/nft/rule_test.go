package nft

import (
	"bytes"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// ruleMessage is a rule as the kernel dumps it: pairs of an expression's kind and
// its attributes.
func ruleMessage(t testing.TB, chain string, exprs ...[2]string) netlink.Message {
	t.Helper()
	attributes := func(a ...netlink.Attribute) []byte {
		b, err := netlink.MarshalAttributes(a)
		must(t, err)
		return b
	}
	var list []netlink.Attribute
	for _, e := range exprs {
		list = append(list, netlink.Attribute{Type: unix.NLA_F_NESTED | unix.NFTA_LIST_ELEM, Data: attributes(
			netlink.Attribute{Type: unix.NFTA_EXPR_NAME, Data: []byte(e[0] + "\x00")},
			netlink.Attribute{Type: unix.NLA_F_NESTED | unix.NFTA_EXPR_DATA, Data: []byte(e[1])})})
	}
	return netlink.Message{Data: append(make([]byte, nfHeader), attributes(
		netlink.Attribute{Type: unix.NFTA_RULE_CHAIN, Data: []byte(chain + "\x00")},
		netlink.Attribute{Type: unix.NFTA_RULE_HANDLE, Data: []byte{0, 0, 0, 0, 0, 0, 1, 2}},
		netlink.Attribute{Type: unix.NLA_F_NESTED | unix.NFTA_RULE_EXPRESSIONS, Data: attributes(list...)})...)}
}

// A rule differs in every expression and in each of its bytes, whether anybody
// has heard of it or not, but not in what its counters have counted.
func TestRulesDiffer(t *testing.T) {
	read := func(exprs ...[2]string) rule {
		chain, r, err := parseRule(ruleMessage(t, "a", exprs...))
		must(t, err)
		if chain != "a" || r.handle != 0x102 {
			t.Errorf("chain %q, handle %#x", chain, r.handle)
		}
		return r
	}
	want := read([2]string{"meta", "key1"}, [2]string{"cmp", "eq 1"}, [2]string{"counter", "0000"}, [2]string{"immediate", "drop"})
	if s := want.String(); s != "meta cmp counter immediate" {
		t.Errorf("reads as %q", s)
	}
	for name, row := range map[string]struct {
		exprs [][2]string
		equal bool
	}{
		"counted":             {[][2]string{{"meta", "key1"}, {"cmp", "eq 1"}, {"counter", "0007"}, {"immediate", "drop"}}, true},
		"another value":       {[][2]string{{"meta", "key1"}, {"cmp", "eq 2"}, {"counter", "0000"}, {"immediate", "drop"}}, false},
		"one more":            {[][2]string{{"meta", "key1"}, {"cmp", "eq 1"}, {"novelty", ""}, {"counter", "0000"}, {"immediate", "drop"}}, false},
		"one less":            {[][2]string{{"meta", "key1"}, {"cmp", "eq 1"}, {"immediate", "drop"}}, false},
		"one of another kind": {[][2]string{{"meta", "key1"}, {"novelty", "eq 1"}, {"counter", "0000"}, {"immediate", "drop"}}, false},
	} {
		if got := want.equal(read(row.exprs...)); got != row.equal {
			t.Errorf("%s: equal %v, want %v", name, got, row.equal)
		}
	}
}

// FuzzRule: whatever a message holds, reading it neither panics nor hangs.
func FuzzRule(f *testing.F) {
	f.Add(ruleMessage(f, "a", [2]string{"meta", "key1"}, [2]string{"counter", ""}).Data)
	f.Add(bytes.Repeat([]byte{0xff}, 64))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _, _ = parseRule(netlink.Message{Data: b})
	})
}
