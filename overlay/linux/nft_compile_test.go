package linux

import (
	"cmp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/nftables/expr"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/overlaytest"
)

// filterOf are the tables and elements that a state needs, tables first.
func filterOf(t testing.TB, s overlay.State) []overlay.Object {
	t.Helper()
	k := overlaytest.New()
	must(t, overlay.New(k, "weft", discard).Set(t.Context(), s))
	all, err := k.List(t.Context())
	must(t, err)
	var filter []overlay.Object
	for _, o := range all {
		switch o.(type) {
		case overlay.NFTable, overlay.NFElement:
			filter = append(filter, o)
		}
	}
	slices.SortFunc(filter, func(a, b overlay.Object) int {
		return cmp.Or(cmp.Compare(a.Rank(), b.Rank()), cmp.Compare(a.String(), b.String()))
	})
	return filter
}

// tablesOf are the tables among objects.
func tablesOf(objects []overlay.Object) (tables []overlay.NFTable) {
	for _, o := range objects {
		if t, ok := o.(overlay.NFTable); ok {
			tables = append(tables, t)
		}
	}
	return tables
}

func TestRulesRoundTrip(t *testing.T) {
	for _, vtep := range underlays {
		for _, table := range tablesOf(filterOf(t, overlay.State{VTEP: vtep, Port: 4799, Complete: true})) {
			rules, err := parseRules(table.Rules)
			must(t, err)
			if diff := gocmp.Diff(table.Rules, rules.String()); diff != "" {
				t.Errorf("%s: text differs after reading it (-want +got):\n%s", table, diff)
			}
			for _, c := range rules.chains {
				for _, want := range c.rules {
					exprs, err := compile(want)
					if err != nil {
						t.Error(err)
					} else if got := decompile(exprs); got != want {
						t.Errorf("rule differs after compiling it:\nwant %s\ngot  %s", want, got)
					}
				}
			}
		}
	}
}

func TestRulesThatCannotBeCompiled(t *testing.T) {
	for rule, want := range map[string]string{
		"th dport ssh accept":             "th dport",
		"iifname lo accept":               "bad device name lo",
		`iifname "sixteen-letters-" drop`: "bad device name",
		"ip daddr 127.0.0.0/9 drop":       "whole bytes",
		"ip saddr 2001 drop":              "ip saddr",
		"ct state old drop":               `unknown connection state "old"`,
		"meta l4proto sctp drop":          `unknown value "sctp"`,
		"iifname . ip daddr 192.0.2.1":    "can only be looked up",
		"ether saddr 0e:00:00:00:00:01":   "no notation",
		"meta iifgroup & x == 1":          "invalid syntax",
		"redirect to 53":                  `want "to :PORT"`,
		"redirect to :dns":                "invalid syntax",
		"colour blue drop":                `unknown word "colour"`,
		"jump":                            "jump needs a chain",
		"ct status old accept":            `unknown connection status "old"`,
		"dnat ip to th dport":             "dnat needs a map",
		"dnat to 192.0.2.1":               `"to" instead of "ip"`,
		"iifname . ":                      `unknown word ""`,
	} {
		if _, err := compile(rule); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("compile %s: got error %v, want one with %q", rule, err, want)
		}
	}
}

// What an operator adds by hand must never read like a rule of ours.
func TestForeignRules(t *testing.T) {
	for name, exprs := range map[string][]expr.Any{
		"nothing we can name":      {&expr.Limit{}},
		"a value without its load": {&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{1}}},
		"an unused load":           {&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}},
		"another comparison": {&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpGt, Register: 1, Data: []byte{17}}},
		"another register": {&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 2, Data: []byte{17}}},
		"a set that is a map": {&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
			&expr.Lookup{SourceRegister: 1, SetName: "closed", IsDestRegSet: true}},
		"dnat to an address alone": {&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: "pub4"},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: 2, RegAddrMin: 1, RegAddrMax: 1}},
		"dnat to one port":    {&expr.NAT{Type: expr.NATTypeDestNAT, Family: 2, RegAddrMin: 1, RegAddrMax: 1}},
		"masquerade to ports": {&expr.Masq{ToPorts: true, RegProtoMin: 1}},
		"a transport field without its protocol": {&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Len: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{8}}},
		"bits turned around": {&expr.Meta{Key: expr.MetaKeyIIFGROUP, Register: 1},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native(1), Xor: native(1)},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: native(1)}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := decompile(exprs); !strings.HasSuffix(got, "# not ours") {
				t.Errorf("reads as %q", got)
			}
		})
	}
}

// Counters count; what they have counted is no difference.
func TestCountedRuleReadsTheSame(t *testing.T) {
	const rule = "counter drop"
	if got := decompile([]expr.Any{&expr.Counter{Packets: 7, Bytes: 700}, &expr.Verdict{Kind: expr.VerdictDrop}}); got != rule {
		t.Errorf("got %q, want %q", got, rule)
	}
}

func TestRulesThatCannotBeRead(t *testing.T) {
	for _, text := range []string{"accept\n", "\tset a {\n\t\tsize 7\n\t}\n", "\tcounter a {\n\t}\n"} {
		if _, err := parseRules(text); err == nil {
			t.Errorf("no error for %q", text)
		}
	}
}
