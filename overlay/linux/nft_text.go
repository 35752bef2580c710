package linux

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
)

// ruleset is the content of an overlay.NFTable: the text is the wanted form,
// this one is on the way to the kernel and back.
type ruleset struct {
	flags  uint32 // of the table; none in everything we want
	sets   []ruleSet
	chains []ruleChain
}

type ruleSet struct {
	name     string
	typ      string // types of the key, joined by " . "
	data     string // of a map: types of what it holds, joined by " . "
	interval bool
	odd      string // what a set of ours never has
}

type ruleChain struct {
	name  string
	base  string // type, hook, priority and policy; empty when only jumped to
	rules []string
}

// parseRules reads overlay.NFTable.Rules.
func parseRules(text string) (r ruleset, err error) {
	var set *ruleSet
	var chain *ruleChain
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		kind, rest, _ := strings.Cut(line, " ")
		switch {
		case line == "}":
			set, chain = nil, nil
		case set == nil && chain == nil && (kind == "set" || kind == "map"):
			r.sets = append(r.sets, ruleSet{name: strings.TrimSuffix(rest, " {")})
			set = &r.sets[len(r.sets)-1]
		case set == nil && chain == nil && kind == "chain":
			r.chains = append(r.chains, ruleChain{name: strings.TrimSuffix(rest, " {")})
			chain = &r.chains[len(r.chains)-1]
		case set != nil && kind == "type":
			set.typ, set.data, _ = strings.Cut(rest, " : ")
		case set != nil && line == "flags interval":
			set.interval = true
		case chain != nil && kind == "type":
			chain.base = line
		case chain != nil:
			chain.rules = append(chain.rules, line)
		default:
			return ruleset{}, fmt.Errorf("nft rules: unexpected %q", line)
		}
	}
	return r, nil
}

// String is the text from which parseRules makes r: sets, maps and chains, each
// kind sorted.
func (r ruleset) String() string {
	var b strings.Builder
	if r.flags != 0 {
		fmt.Fprintf(&b, "\tflags %#x\n", r.flags)
	}
	slices.SortFunc(r.sets, func(a, b ruleSet) int {
		return cmp.Or(strings.Compare(b.kind(), a.kind()), strings.Compare(a.name, b.name))
	})
	for _, s := range r.sets {
		fmt.Fprintf(&b, "\t%s %s {\n%s\t}\n", s.kind(), s.name, s.body())
	}
	slices.SortFunc(r.chains, func(a, b ruleChain) int { return strings.Compare(a.name, b.name) })
	for _, c := range r.chains {
		fmt.Fprintf(&b, "\tchain %s {\n", c.name)
		if c.base != "" {
			fmt.Fprintf(&b, "\t\t%s\n", c.base)
		}
		for _, rule := range c.rules {
			fmt.Fprintf(&b, "\t\t%s\n", rule)
		}
		b.WriteString("\t}\n")
	}
	return b.String()
}

func (s ruleSet) kind() string {
	if s.data != "" {
		return "map"
	}
	return "set"
}

func (s ruleSet) body() string {
	text := "\t\ttype " + s.typ + "\n"
	if s.data != "" {
		text = "\t\ttype " + s.typ + " : " + s.data + "\n"
	}
	if s.interval {
		text += "\t\tflags interval\n"
	}
	if s.odd != "" {
		text += "\t\t" + s.odd + "\n"
	}
	return text
}

// keyTypes are the types of set keys that our sets use.
var keyTypes = map[string]nftables.SetDatatype{
	"ifname":     nftables.TypeIFName,
	"ether_addr": nftables.TypeEtherAddr,
	"ipv4_addr":  nftables.TypeIPAddr,
	"ipv6_addr":  nftables.TypeIP6Addr,

	"inet_proto":   nftables.TypeInetProto,
	"inet_service": nftables.TypeInetService,
}

func keyType(names string) (nftables.SetDatatype, error) {
	var types []nftables.SetDatatype
	for name := range strings.SplitSeq(names, " . ") {
		t, ok := keyTypes[name]
		if !ok {
			return nftables.SetDatatype{}, fmt.Errorf("nft set: unknown type %q", name)
		}
		types = append(types, t)
	}
	if len(types) == 1 {
		return types[0], nil
	}
	return nftables.ConcatSetType(types...)
}

// hooks are the names of the places in the packet's path, by number
// (linux/netfilter.h).
var hooks = []string{"prerouting", "input", "forward", "output", "postrouting"}

// parseBase reads "type T hook H priority P; policy accept;".
func parseBase(base string, c *nftables.Chain) error {
	var typ, hook, policy string
	var priority int
	if _, err := fmt.Sscanf(base, "type %s hook %s priority %d; policy %s", &typ, &hook, &priority, &policy); err != nil {
		return fmt.Errorf("nft chain %s: %q: %w", c.Name, base, err)
	}
	n := slices.Index(hooks, hook)
	if n < 0 || policy != "accept;" {
		return fmt.Errorf("nft chain %s: unknown hook or policy in %q", c.Name, base)
	}
	accept := nftables.ChainPolicyAccept
	c.Type = nftables.ChainType(typ)
	c.Hooknum = nftables.ChainHookRef(nftables.ChainHook(n))
	c.Priority = nftables.ChainPriorityRef(nftables.ChainPriority(priority))
	c.Policy = &accept
	return nil
}

// baseText is the inverse of parseBase.
func baseText(c *nftables.Chain) string {
	if c.Hooknum == nil || c.Priority == nil {
		return ""
	}
	hook := strconv.Itoa(int(*c.Hooknum))
	if int(*c.Hooknum) < len(hooks) {
		hook = hooks[*c.Hooknum]
	}
	policy := "accept"
	if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
		policy = "drop"
	}
	return fmt.Sprintf("type %s hook %s priority %d; policy %s;", c.Type, hook, *c.Priority, policy)
}
