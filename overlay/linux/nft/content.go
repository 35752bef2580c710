package nft

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
)

// content is a table without the elements that we know.
type content struct {
	flags  uint32 // of the table
	sets   []set  // and maps
	chains []chain
}

type set struct {
	def         nftables.Set
	unsupported int // elements that are none of ours
}

type chain struct {
	def   nftables.Chain
	rules []rule
}

// head is everything about a set but its elements and what counts in one
// transaction alone.
func (s set) head() nftables.Set {
	s.def.Table, s.def.ID = nil, 0
	return s.def
}

// head is everything about a chain but its rules, as nft(8) says it.
func (c chain) head() string {
	if c.def.Hooknum == nil || c.def.Priority == nil {
		return ""
	}
	policy := "accept"
	if c.def.Policy != nil && *c.def.Policy == nftables.ChainPolicyDrop {
		policy = "drop"
	}
	return fmt.Sprintf("type %s hook %d priority %d; policy %s;", c.def.Type, *c.def.Hooknum, *c.def.Priority, policy)
}

// difference is one thing that a table has otherwise than it should.
type difference struct {
	chain string // "" unless it is about a rule
	want  string // the line of the text; "" for one too many
	have  rule   // without expressions where there is none
	other string // what it is, unless it is about a rule
}

// String says the difference in one line.
func (d difference) String() string {
	switch {
	case d.chain == "":
		return d.other
	case d.want == "":
		return fmt.Sprintf("chain %s: one too many: %s", d.chain, d.have)
	case len(d.have.exprs) == 0:
		return fmt.Sprintf("chain %s: missing: %s", d.chain, d.want)
	}
	return fmt.Sprintf("chain %s: %s instead of: %s", d.chain, d.have, d.want)
}

// differences are what have differs in from c. lines are the rules of each
// chain of c as people write them.
func (c content) differences(have content, lines map[string][]string) (all []difference) {
	other := func(format string, args ...any) { all = append(all, difference{other: fmt.Sprintf(format, args...)}) }
	if c.flags != have.flags {
		other("table with flags %#x", have.flags)
	}
	sets := byName(have.sets, func(s set) string { return s.def.Name })
	for _, want := range c.sets {
		switch s, ok := sets[want.def.Name]; {
		case !ok:
			other("set %s: missing", want.def.Name)
		case s.head() != want.head():
			other("set %s: of another kind", want.def.Name)
		case s.unsupported != 0:
			other("set %s: %d other elements", want.def.Name, s.unsupported)
		}
		delete(sets, want.def.Name)
	}
	for name := range sets {
		other("set %s: one too many", name)
	}
	chains := byName(have.chains, func(c chain) string { return c.def.Name })
	for _, want := range c.chains {
		name := want.def.Name
		switch got, ok := chains[name]; {
		case !ok:
			other("chain %s: missing", name)
		case got.head() != want.head():
			other("chain %s: %s", name, got.head())
		default:
			all = append(all, want.differences(got, lines[name])...)
		}
		delete(chains, name)
	}
	for name := range chains {
		other("chain %s: one too many", name)
	}
	return all
}

func byName[T any](all []T, name func(T) string) map[string]T {
	m := make(map[string]T, len(all))
	for _, one := range all {
		m[name(one)] = one
	}
	return m
}

// differences are the rules between the first and the last in which the chains
// differ.
func (c chain) differences(have chain, lines []string) (all []difference) {
	want, got := c.rules, have.rules
	for len(want) > 0 && len(got) > 0 && want[0].equal(got[0]) {
		want, got, lines = want[1:], got[1:], lines[1:]
	}
	for len(want) > 0 && len(got) > 0 && want[len(want)-1].equal(got[len(got)-1]) {
		want, got = want[:len(want)-1], got[:len(got)-1]
	}
	for i := range max(len(want), len(got)) {
		d := difference{chain: c.def.Name}
		if i < len(want) {
			d.want = lines[i]
		}
		if i < len(got) {
			d.have = got[i]
		}
		all = append(all, d)
	}
	return all
}

// plan is a text and what the kernel makes of it.
type plan struct {
	text    string
	lines   map[string][]string // the rules of each chain
	content content
	sources map[string][]*nftables.Rule // the rules of each chain, to be sent
}

// differs says in what a table is not as planned.
func (p *plan) differs(have content) []difference { return p.content.differences(have, p.lines) }

// describe is the text, if the kernel has it, and comments on the difference if
// it has not.
func (p *plan) describe(have content) string {
	if p == nil {
		return "\t# not compared yet\n"
	}
	all := p.differs(have)
	if len(all) == 0 {
		return p.text
	}
	lines := make([]string, len(all))
	for i, d := range all {
		lines[i] = "\t# " + d.String() + "\n"
	}
	slices.SortFunc(lines, cmp.Compare)
	return strings.Join(lines, "")
}

// rulesOf are the lines of overlay.NFTable.Rules that are rules, by chain.
func rulesOf(text string) map[string][]string {
	rules := map[string][]string{}
	var chain string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		kind, rest, _ := strings.Cut(line, " ")
		switch {
		case line == "}":
			chain = ""
		case chain == "" && kind == "chain":
			chain = strings.TrimSuffix(rest, " {")
		case chain != "" && kind != "type":
			rules[chain] = append(rules[chain], line)
		}
	}
	return rules
}
