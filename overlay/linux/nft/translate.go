package nft

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/netns"
)

// translate has nft(8) load a table into an empty namespace, and asks the kernel
// there what that made. The namespace has no name: it goes with the last
// descriptor, or with this process.
func translate(ctx context.Context, of overlay.NFTable, def nftables.Table) (*plan, error) {
	p := &plan{text: of.Rules, lines: rulesOf(of.Rules), sources: map[string][]*nftables.Rule{}}
	ns, err := loaded(ctx, of.Text())
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	t, err := open(Config{Log: slog.New(slog.DiscardHandler)}, ns, of.Place, def)
	if err != nil {
		return nil, err
	}
	defer func() { _ = t.close() }()
	theirs, err := t.dump()
	if err != nil {
		return nil, err
	}
	if err := p.take(t, theirs.content); err != nil {
		return nil, err
	}
	p.moveTargets()
	// What is sent later is sent here first: the kernel must have the same of it
	// as it had of nft(8).
	if err := t.replace(p, nil); err != nil {
		return nil, err
	}
	ours, err := t.dump()
	if err != nil {
		return nil, err
	}
	for _, d := range p.differs(ours.content) {
		if !strings.Contains(d.want, target) {
			return nil, fmt.Errorf("this nft(8) makes rules that cannot be handed on: %s", d)
		}
	}
	p.content = ours.content
	return p, nil
}

// loaded is a new namespace in which nft(8) has loaded a text.
func loaded(ctx context.Context, text string) (*os.File, error) {
	return netns.Unnamed(func() error {
		_, err := run(ctx, loading.bound(), strings.ReplaceAll(text, target, standIn), "-f", "-")
		if ctx.Err() == nil { // else the caller's time was over, which says nothing
			loading.learn(err)
		}
		return err
	})
}

// take makes the plan of what nft(8) has loaded.
func (p *plan) take(t *table, c content) error {
	p.content = c
	for _, s := range c.sets {
		if s.def.Anonymous {
			return errors.New("a set in a rule needs a name")
		}
	}
	for _, ch := range c.chains {
		rules, err := t.conn.GetRules(&t.def, &ch.def)
		if err != nil {
			return err
		}
		if want := p.lines[ch.def.Name]; len(rules) != len(want) {
			return fmt.Errorf("chain %s: nft(8) makes %d rules of %d lines", ch.def.Name, len(rules), len(want))
		}
		p.sources[ch.def.Name] = rules
	}
	return nil
}

// The address that a neighbour advertisement is about (RFC 4861, section 4.4)
// has a name that nft 1.0.6 does not know. Whichever there is, it is told the
// name of a field of the same size instead, and what that loads is moved: so all
// versions make the same, and a newer one replaces no table.
const (
	target  = "icmpv6 taddr"
	standIn = "ip6 daddr"
)

var (
	standInAt = expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: 24, Len: 16}
	targetAt  = expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: 8, Len: 16}
)

// moveTargets makes the rules with the stand-in load what they say.
func (p *plan) moveTargets() {
	for chain, lines := range p.lines {
		for i, line := range lines {
			if r := p.sources[chain][i]; strings.Contains(line, target) {
				r.Exprs = moved(r.Exprs)
			}
		}
	}
}

// moved are the expressions of a rule with the stand-in as nft(8) makes them of
// the target: without the question for the protocol of the stand-in, which is a
// load and a comparison, and with the load of the target.
func moved(exprs []expr.Any) (out []expr.Any) {
	for i := 0; i < len(exprs); i++ {
		switch e := exprs[i].(type) {
		case *expr.Meta:
			if e.Key == expr.MetaKeyPROTOCOL {
				i++
				continue
			}
		case *expr.Payload:
			if e.Base == standInAt.Base && e.Offset == standInAt.Offset && e.Len == standInAt.Len {
				e.Base, e.Offset = targetAt.Base, targetAt.Offset
			}
		}
		out = append(out, exprs[i])
	}
	return out
}

// fits reports whether an element belongs into one of the sets.
func (p *plan) fits(e overlay.NFElement) bool {
	return slices.ContainsFunc(p.content.sets, func(s set) bool {
		return s.def.Name == e.Set && s.def.KeyType.Name == typeOf(e) && s.def.DataType.Name == dataOf(e)
	})
}
