package overlay

import "fmt"

// Guard is a chain of iptables(8) through which forwarded packets must pass
// before another program's rules, or its policy, drop them.
type Guard struct {
	IPv6   bool
	Chain  string // DOCKER-USER, which is there for others' rules, or FORWARD
	Legacy bool   // of the old iptables, beside the one on nftables
}

// Accept is a rule at the top of a guard's chain: what leaves an ordinary
// network, or enters one, is decided by our own table alone.
type Accept struct {
	Guard
	In bool // into the network; else out of it
}

// Key is the whole rule.
func (a Accept) Key() Key { return a }

// Rank places the rules with the tables.
func (a Accept) Rank() Rank { return RankTable }

// String is the iptables(8) command.
func (a Accept) String() string { return a.command("-I") }

// Deletion is the command that removes the rule.
func (a Accept) Deletion() string { return a.command("-D") }

func (a Accept) command(verb string) string {
	program, group := "iptables", "--src-group"
	if a.IPv6 {
		program = "ip6tables"
	}
	if a.Legacy {
		program += "-legacy"
	}
	if a.In {
		group = "--dst-group"
	}
	return fmt.Sprintf("%s %s %s -m devgroup %s %#x -m comment --comment weft -j ACCEPT", program, verb, a.Chain, group, Group)
}

// accepts are the rules that the guards need for networks that lead out.
func (b *builder) accepts(s State, guards []Guard) {
	for _, g := range guards {
		v4, v6 := leadsOut(s.Networks)
		if g.IPv6 && v6 || !g.IPv6 && v4 {
			b.add(Accept{g, false}, Accept{g, true})
		}
	}
}
