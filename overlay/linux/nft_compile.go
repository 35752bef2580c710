package linux

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// compile translates one rule, word by word, into the kernel's expressions. It
// makes the same of a word as nft(8) does.
func compile(rule string) ([]expr.Any, error) {
	c := compiler{words: strings.Fields(rule)}
	for len(c.words) > 0 {
		if err := c.statement(); err != nil {
			return nil, fmt.Errorf("nft rule %q: %w", rule, err)
		}
	}
	return c.exprs, nil
}

type compiler struct {
	words []string
	exprs []expr.Any
}

func (c *compiler) emit(e expr.Any) { c.exprs = append(c.exprs, e) }

// next takes a word; there is none after the end.
func (c *compiler) next() string {
	if len(c.words) == 0 {
		return ""
	}
	word := c.words[0]
	c.words = c.words[1:]
	return word
}

// verdicts are the words for what becomes of a packet.
var verdicts = map[string]expr.VerdictKind{
	"accept": expr.VerdictAccept, "drop": expr.VerdictDrop,
	"jump": expr.VerdictJump, "goto": expr.VerdictGoto, "return": expr.VerdictReturn,
}

func (c *compiler) statement() error {
	kind, verdict := verdicts[c.words[0]]
	switch word := c.words[0]; {
	case word == "counter":
		c.emit(&expr.Counter{})
	case word == "notrack":
		c.emit(&expr.Notrack{})
	case word == "masquerade":
		c.emit(&expr.Masq{})
	case word == "redirect":
		return c.redirect()
	case word == "dnat":
		return c.dnat()
	case word == "jump" || word == "goto":
		c.next()
		if len(c.words) == 0 {
			return fmt.Errorf("%s needs a chain", word)
		}
		c.emit(&expr.Verdict{Kind: kind, Chain: c.words[0]})
	case verdict:
		c.emit(&expr.Verdict{Kind: kind})
	default:
		return c.match()
	}
	c.next()
	return nil
}

// dnat compiles "dnat ip to FIELD [. FIELD]... map @MAP", where the map holds
// addresses and ports.
func (c *compiler) dnat() error {
	for _, want := range []string{"dnat", "ip", "to"} {
		if word := c.next(); word != want {
			return fmt.Errorf("%q instead of %q", word, want)
		}
	}
	key, err := c.fields()
	if err != nil {
		return err
	}
	name, ok := "", c.next() == "map"
	if ok {
		name, ok = strings.CutPrefix(c.next(), "@")
	}
	if !ok {
		return fmt.Errorf("dnat needs a map")
	}
	c.load(key)
	c.emit(&expr.Lookup{SourceRegister: firstRegister, DestRegister: firstRegister, IsDestRegSet: true, SetName: name})
	c.emit(natTo)
	return nil
}

// natTo takes what a map holds: an address, and in the next word a port.
var natTo = &expr.NAT{
	Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, Specified: true,
	RegAddrMin: firstRegister, RegAddrMax: firstRegister, RegProtoMin: register(1), RegProtoMax: register(1),
}

// match compiles "FIELD [. FIELD]... [& MASK] [== | !=] VALUE | @SET".
func (c *compiler) match() error {
	key, err := c.fields()
	if err != nil {
		return err
	}
	var mask []byte
	if len(c.words) > 0 && c.words[0] == "&" {
		c.next()
		if mask, err = key[0].value.parse(c.next()); err != nil {
			return err
		}
	}
	not := false
	if len(c.words) > 0 && (c.words[0] == "==" || c.words[0] == "!=") {
		not = c.next() == "!="
	}
	operand := c.next()
	if set, ok := strings.CutPrefix(operand, "@"); ok {
		c.lookup(key, set, not)
		return nil
	}
	if len(key) > 1 {
		return fmt.Errorf("a concatenation can only be looked up, not compared with %q", operand)
	}
	return c.compare(key[0], mask, operand, not)
}

func (c *compiler) fields() (key []field, err error) {
	for {
		f, err := c.field()
		if err != nil {
			return nil, err
		}
		key = append(key, f)
		if len(c.words) == 0 || c.words[0] != "." {
			return key, nil
		}
		c.next()
	}
}

// field takes the words of the longest field name that fits.
func (c *compiler) field() (field, error) {
	for n := min(3, len(c.words)); n > 0; n-- {
		name := strings.Join(c.words[:n], " ")
		if i := slices.IndexFunc(fields, func(f field) bool { return f.name == name }); i >= 0 {
			c.words = c.words[n:]
			return fields[i], nil
		}
	}
	return field{}, fmt.Errorf("unknown word %q", c.next())
}

// load puts the fields side by side.
func (c *compiler) load(key []field) {
	word := 0
	for _, f := range key {
		c.emit(f.loading(register(word), f.size))
		word += words(f.size)
	}
}

func (c *compiler) lookup(key []field, set string, not bool) {
	c.load(key)
	c.emit(&expr.Lookup{SourceRegister: firstRegister, SetName: set, Invert: not})
}

func (c *compiler) compare(f field, mask []byte, operand string, not bool) error {
	value, err := f.value.parse(operand)
	if err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	if f.any {
		mask, value, not = value, make([]byte, len(value)), !not
	}
	c.emit(f.loading(firstRegister, len(value)))
	if mask != nil {
		c.emit(&expr.Bitwise{SourceRegister: firstRegister, DestRegister: firstRegister,
			Len: uint32(len(mask)), Mask: mask, Xor: make([]byte, len(mask))})
	}
	op := expr.CmpOpEq
	if not {
		op = expr.CmpOpNeq
	}
	c.emit(&expr.Cmp{Op: op, Register: firstRegister, Data: value})
	return nil
}
