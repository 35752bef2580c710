package nft

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// outcome is where a packet is after a chain.
type outcome int

const (
	goesOn outcome = iota // behind the last rule
	accepted
	dropped
)

// packet is what is known of one that is forwarded; the rest may be anything.
type packet struct {
	meta          map[expr.MetaKey][]byte
	state, status uint32     // of its connection, as the bits of ct state and ct status
	src, dst      netip.Addr // zero: any
	ours          ends       // which of its ends an endpoint's
	port          uint16     // that it goes to; 0: any
}

// ends are the sides of a packet.
type ends struct{ in, out bool }

// ruleset is one table of another program.
type ruleset struct {
	family nftables.TableFamily
	chains map[string][]rule
	// set returns the elements of a set or map, false when they cannot be read.
	set  func(name string) (def nftables.Set, elements []nftables.SetElement, ok bool)
	seen map[string]bool // chains that a walk came to
}

// jumps bounds how deep chains call each other; the kernel's own bound is 16
// (NFT_JUMP_STACK_SIZE).
const jumps = 16

// walk follows a packet through a chain. A rule that may or may not match is passed
// over, unless it accepts and matches what is known of the endpoint's side: there
// somebody has decided about endpoints.
func (r *ruleset) walk(chain string, p packet, depth int) outcome {
	r.seen[chain] = true
	if depth > jumps {
		return accepted
	}
	for _, rule := range r.chains[chain] {
		s := step{packet: p, ruleset: r, regs: map[uint32]value{}, matches: yes}
		v := s.run(rule)
		switch {
		case s.matches == no || v == nil:
			continue
		case v.Kind == expr.VerdictReturn && s.matches == yes:
			return goesOn
		}
		o := goesOn
		switch v.Kind {
		case expr.VerdictAccept, expr.VerdictQueue, expr.VerdictStolen, expr.VerdictStop:
			o = accepted
		case expr.VerdictDrop:
			o = dropped
		case expr.VerdictJump, expr.VerdictGoto:
			o = r.walk(v.Chain, p, depth+1)
		}
		if s.matches == yes && (o != goesOn || v.Kind == expr.VerdictGoto) || s.ours && o == accepted {
			return o
		}
	}
	return goesOn
}

// match says whether a rule is for a packet.
type match int

const (
	no match = iota
	maybe
	yes
)

// value is what a register holds.
type value struct {
	data  []byte
	known bool
	ours  bool // it says something of the endpoint's side
}

// step is one rule at work.
type step struct {
	packet
	*ruleset
	regs    map[uint32]value
	matches match
	ours    bool
}

// run returns the rule's verdict, nil when it has none.
func (s *step) run(r rule) (verdict *expr.Verdict) {
	for _, e := range r.exprs {
		if v := s.do(e); v != nil {
			verdict = v
		}
		if s.matches == no {
			return nil
		}
	}
	return verdict
}

// do takes one expression. One that only notes or changes something matches always.
func (s *step) do(e expression) *expr.Verdict {
	switch e.kind {
	case "meta":
		into(s, e, func(m *expr.Meta) { s.loadMeta(m) })
	case "ct":
		into(s, e, func(c *expr.Ct) { s.loadCt(c) })
	case "payload":
		into(s, e, func(p *expr.Payload) { s.loadPayload(p) })
	case "bitwise":
		into(s, e, func(b *expr.Bitwise) { s.bitwise(b) })
	case "cmp":
		into(s, e, func(c *expr.Cmp) { s.compare(c) })
	case "range":
		into(s, e, func(x *expr.Range) { s.between(x) })
	case "lookup":
		var v *expr.Verdict
		into(s, e, func(l *expr.Lookup) { v = s.lookup(l) })
		return v
	case "immediate":
		return s.immediate([]byte(e.data))
	case "reject":
		return &expr.Verdict{Kind: expr.VerdictDrop}
	case "match":
		into(s, e, func(m *expr.Match) { s.xtMatch(m) })
	case "target":
		var v *expr.Verdict
		into(s, e, func(t *expr.Target) { v = s.xtTarget(t) })
		return v
	case "counter", "log", "objref", "notrack", "nat", "masq", "redir", "dynset", "last":
	default:
		s.mayMatch()
	}
	return nil
}

// immediate is a verdict, or a value in a register, which is of no interest. The
// library's reading of a verdict trusts the lengths in it.
func (s *step) immediate(b []byte) (v *expr.Verdict) {
	ad, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		s.mayMatch()
		return nil
	}
	ad.ByteOrder = binary.BigEndian
	register := uint32(unix.NFT_REG_VERDICT)
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_IMMEDIATE_DREG:
			register = ad.Uint32()
		case unix.NFTA_IMMEDIATE_DATA:
			ad.Nested(func(ad *netlink.AttributeDecoder) error {
				for ad.Next() {
					if ad.Type() == unix.NFTA_DATA_VERDICT {
						v, _ = verdictOf(ad.Bytes())
					}
				}
				return nil
			})
		}
	}
	if register != unix.NFT_REG_VERDICT {
		s.regs[register] = value{}
		return nil
	}
	return v
}

// into decodes an expression; one that cannot be decoded may do anything.
func into[E any, P interface {
	*E
	expr.Any
}](s *step, e expression, do func(P)) {
	x := P(new(E))
	if expr.Unmarshal(byte(s.family), []byte(e.data), x) != nil {
		s.mayMatch()
		return
	}
	do(x)
}

func (s *step) mayMatch() { s.matches = min(s.matches, maybe) }

func (s *step) loadMeta(m *expr.Meta) {
	if m.SourceRegister {
		return
	}
	data, known := s.meta[m.Key]
	in := m.Key == expr.MetaKeyIIF || m.Key == expr.MetaKeyIIFNAME || m.Key == expr.MetaKeyIIFGROUP
	out := m.Key == expr.MetaKeyOIF || m.Key == expr.MetaKeyOIFNAME || m.Key == expr.MetaKeyOIFGROUP
	s.regs[m.Register] = value{data, known, in && s.packet.ours.in || out && s.packet.ours.out}
}

func (s *step) loadCt(c *expr.Ct) {
	if c.SourceRegister {
		return
	}
	v := value{known: true}
	switch c.Key {
	case expr.CtKeySTATE:
		v.data = binary.NativeEndian.AppendUint32(nil, s.state)
	case expr.CtKeySTATUS:
		v.data = binary.NativeEndian.AppendUint32(nil, s.status)
	default:
		v.known = false
	}
	s.regs[c.Register] = v
}

// loadPayload knows the addresses in the header, or parts of them: a prefix of whole
// bytes is compared without the rest.
func (s *step) loadPayload(p *expr.Payload) {
	if p.OperationType == expr.PayloadWrite {
		return
	}
	v := s.loadTransport(p)
	if p.Base == expr.PayloadBaseNetworkHeader {
		for _, end := range []struct {
			addr     netip.Addr
			at4, at6 uint32
			ours     bool
		}{{s.src, 12, 8, s.packet.ours.in}, {s.dst, 16, 24, s.packet.ours.out}} {
			at := end.at6
			if end.addr.Is4() {
				at = end.at4
			}
			if b := end.addr.AsSlice(); end.addr.IsValid() && p.Offset >= at && p.Offset+p.Len <= at+uint32(len(b)) {
				v = value{b[p.Offset-at:][:p.Len], true, end.ours}
			}
		}
	}
	s.regs[p.DestRegister] = v
}

func (s *step) bitwise(b *expr.Bitwise) {
	v := s.regs[b.SourceRegister]
	if v.known && len(b.Mask) >= len(v.data) && len(b.Xor) >= len(v.data) && len(b.Mask) > 0 {
		v.data = slices.Clone(v.data)
		for i := range v.data {
			v.data[i] = v.data[i]&b.Mask[i] ^ b.Xor[i]
		}
	} else {
		v.known = false
	}
	s.regs[b.DestRegister] = v
}

func (s *step) compare(c *expr.Cmp) {
	v := s.regs[c.Register]
	if !v.known || len(v.data) < len(c.Data) {
		s.mayMatch()
		return
	}
	d := bytes.Compare(v.data[:len(c.Data)], c.Data)
	s.decide(map[expr.CmpOp]bool{expr.CmpOpEq: d == 0, expr.CmpOpNeq: d != 0, expr.CmpOpLt: d < 0, expr.CmpOpLte: d <= 0,
		expr.CmpOpGt: d > 0, expr.CmpOpGte: d >= 0}[c.Op], v.ours && c.Op == expr.CmpOpEq)
}

func (s *step) between(x *expr.Range) {
	v := s.regs[x.Register]
	if !v.known {
		s.mayMatch()
		return
	}
	inside := bytes.Compare(v.data, x.FromData) >= 0 && bytes.Compare(v.data, x.ToData) <= 0
	s.decide(inside == (x.Op == expr.CmpOpEq), v.ours && inside)
}

func (s *step) decide(matches, ours bool) {
	if !matches {
		s.matches = no
	}
	s.ours = s.ours || matches && ours
}

// lookup finds a value in a set, or its verdict in a map.
func (s *step) lookup(l *expr.Lookup) *expr.Verdict {
	key := s.regs[l.SourceRegister]
	def, elements, ok := s.set(l.SetName)
	if !key.known || !ok || def.Concatenation || l.IsDestRegSet && l.DestRegister != unix.NFT_REG_VERDICT {
		if l.IsDestRegSet {
			s.regs[l.DestRegister] = value{}
		}
		s.mayMatch()
		return nil
	}
	found := find(def, elements, key.data)
	s.decide((found != nil) != l.Invert, key.ours && found != nil)
	if found == nil || !l.IsDestRegSet {
		return nil
	}
	v, ok := verdictOf(found.Val)
	if !ok {
		s.mayMatch()
	}
	return v
}

// verdictOf reads what a map holds: the library hands it over as it came
// (linux/netfilter/nf_tables.h, NFTA_DATA_VERDICT).
func verdictOf(b []byte) (*expr.Verdict, bool) {
	ad, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return nil, false
	}
	ad.ByteOrder = binary.BigEndian
	v, coded := &expr.Verdict{}, false
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_VERDICT_CODE:
			v.Kind, coded = expr.VerdictKind(int32(ad.Uint32())), true
		case unix.NFTA_VERDICT_CHAIN:
			v.Chain = ad.String()
		}
	}
	if !coded || ad.Err() != nil {
		return nil, false
	}
	return v, true
}

// find returns the element with a key, or the interval that it is in.
func find(def nftables.Set, elements []nftables.SetElement, key []byte) *nftables.SetElement {
	var best *nftables.SetElement
	for i := range elements {
		e := &elements[i]
		switch c := bytes.Compare(e.Key, key); {
		case !def.Interval && bytes.Equal(e.Key[:min(len(key), len(e.Key))], key):
			return e
		case def.Interval && c <= 0 && (best == nil || bytes.Compare(e.Key, best.Key) > 0 || bytes.Equal(e.Key, best.Key) && best.IntervalEnd):
			best = e
		}
	}
	if best == nil || best.IntervalEnd {
		return nil
	}
	return best
}
