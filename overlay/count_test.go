package overlay

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// A rule that counts what it drops is in the metrics, under a word that exists, and
// each word is of a rule.
func TestEveryRuleThatDropsHasItsReason(t *testing.T) {
	used := map[string]bool{}
	for _, table := range []NFTable{hostTable(netip.MustParseAddr("192.0.2.1"), 4799), fabricTable()} {
		chain := ""
		for line := range strings.Lines(table.Rules) {
			line = strings.TrimSpace(line)
			if rest, ok := strings.CutPrefix(line, "chain "); ok {
				chain = strings.TrimSuffix(rest, " {")
			}
			reason := DropReason(table.Place, chain, line)
			if strings.Contains(line, "counter") != (reason != "") {
				t.Errorf("%s, chain %s: %s: reason %q", table.Name, chain, line, reason)
			}
			if reason != "" {
				used[reason] = true
			}
		}
	}
	for _, r := range dropReasons {
		if !used[r.reason] {
			t.Errorf("no rule drops for %q", r.reason)
		}
	}
	if all := DropReasons(); len(all) != len(used) || !slices.IsSorted(all) {
		t.Errorf("%q", all)
	}
}

func TestEveryKindOfObjectHasAWord(t *testing.T) {
	for _, o := range []Object{Link{}, BridgePort{}, Addr{}, Route{}, FDB{}, BridgeFDB{}, Neigh{}, Sysctl{}, NFTable{}, NFElement{}, Accept{}, Prohibit{}, Mount{}} {
		word := kinds[kindOf(o)]
		if _, mount := o.(Mount); mount != (word == "other") {
			t.Errorf("%T is %q", o, word)
		}
	}
}
