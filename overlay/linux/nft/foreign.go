package nft

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// Device is a device of the host as rules know it.
type Device struct {
	Name         string
	Index, Group uint32
}

// Flow is traffic of endpoints through the host or to it, in one direction.
type Flow struct {
	Name        string // in words
	Hook        Hook   // Input, or Forward, as is ""
	In, Out     Device // Name "": any
	Src, Dst    netip.Addr
	FromWorld   bool // the endpoint is its end, not its begin
	Established bool
	Translated  bool   // by a published port
	Proto       byte   // 0: TCP
	Port        uint16 // that it goes to; 0: any
}

// Droppers are the chains of other programs in the flows' hooks that end them:
// by their policy, or by a rule for all packets that none before has accepted. What
// iptables(8) has made for what is forwarded is not looked at: rules of ours can stand
// there.
func (t *Tables) Droppers(flows []Flow) ([]overlay.ForeignFilter, error) {
	return t.host.droppers(flows)
}

func (t *table) droppers(flows []Flow) (all []overlay.ForeignFilter, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	watched := map[string]bool{}
	for _, family := range []nftables.TableFamily{nftables.TableFamilyINet, nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		t.setReadDeadline()
		chains, err := t.conn.ListChainsOfTableFamily(family)
		if err != nil {
			return nil, fmt.Errorf("list chains: %w", err)
		}
		for _, c := range chains {
			hook := t.filters(c)
			if hook == "" {
				continue
			}
			found, seen, err := t.judge(c, slices.DeleteFunc(slices.Clone(flows), func(f Flow) bool { return cmp.Or(f.Hook, Forward) != hook }))
			if err != nil {
				return nil, err
			}
			for chain := range seen {
				watched[chainKey(family, c.Table.Name, chain)] = true
			}
			if found != nil {
				found.Input = hook == Input
				all = append(all, *found)
			}
		}
	}
	t.foreign.Store(&watched)
	return all, nil
}

// filters is where packets of endpoints meet a chain of another program; "": nowhere.
func (t *table) filters(c *nftables.Chain) Hook {
	switch {
	case c.Hooknum == nil || c.Table.Name == t.def.Name || c.Type == nftables.ChainTypeNAT:
	case *c.Hooknum == *nftables.ChainHookInput:
		return Input
	case *c.Hooknum == *nftables.ChainHookForward && (c.Table.Family == nftables.TableFamilyINet || c.Table.Name != "filter" || c.Name != "FORWARD"):
		return Forward
	}
	return ""
}

func chainKey(family nftables.TableFamily, table, chain string) string {
	return fmt.Sprintf("%d %s %s", family, table, chain)
}

// judge follows the flows through a base chain.
func (t *table) judge(c *nftables.Chain, flows []Flow) (*overlay.ForeignFilter, map[string]bool, error) {
	t.setReadDeadline()
	rules, err := dumpRules(t.sock, *c.Table)
	if err != nil {
		return nil, nil, err
	}
	r := &ruleset{family: c.Table.Family, chains: rules, set: t.setReader(c.Table), seen: map[string]bool{}}
	out := overlay.ForeignFilter{Family: familyNames[c.Table.Family], Table: c.Table.Name, Chain: c.Name}
	policy := c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop
	for _, f := range flows {
		if !f.in(c.Table.Family) {
			continue
		}
		o := r.walk(c.Name, f.packet(), 0)
		if o == dropped || o == goesOn && policy {
			out.Policy = out.Policy || o == goesOn
			if !slices.Contains(out.Drops, f.Name) {
				out.Drops = append(out.Drops, f.Name)
			}
		}
	}
	if len(out.Drops) == 0 {
		return nil, r.seen, nil
	}
	return &out, r.seen, nil
}

var familyNames = map[nftables.TableFamily]string{nftables.TableFamilyINet: "inet", nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6"}

// setReader reads the sets of a table as rules ask for them, each once.
func (t *table) setReader(of *nftables.Table) func(string) (nftables.Set, []nftables.SetElement, bool) {
	type read struct {
		def      nftables.Set
		elements []nftables.SetElement
		ok       bool
	}
	known := map[string]read{}
	return func(name string) (nftables.Set, []nftables.SetElement, bool) {
		r, ok := known[name]
		if !ok {
			t.setReadDeadline()
			set, err := t.conn.GetSetByName(of, name)
			if err == nil {
				r.def = *set
				r.elements, err = t.conn.GetSetElements(set)
			}
			if r.ok = err == nil; !r.ok {
				_ = t.redial()
			}
			known[name] = r
		}
		return r.def, r.elements, r.ok
	}
}

// in reports whether chains of a family see the flow.
func (f Flow) in(family nftables.TableFamily) bool {
	v4 := f.Src.Is4() || f.Dst.Is4()
	return family == nftables.TableFamilyINet || v4 == (family == nftables.TableFamilyIPv4)
}

// Bits of ct state and ct status (linux/netfilter/nf_conntrack_common.h).
const (
	ctEstablished = 1 << 1
	ctNew         = 1 << 3
	ctSeenReply   = 1 << 1
	ctConfirmed   = 1 << 3
	ctSrcNAT      = 1 << 4
	ctDstNAT      = 1 << 5
)

func (f Flow) packet() packet {
	p := packet{src: f.Src, dst: f.Dst, state: ctNew, ours: ends{in: !f.FromWorld, out: f.FromWorld}, port: f.Port,
		meta: map[expr.MetaKey][]byte{expr.MetaKeyL4PROTO: {cmp.Or(f.Proto, unix.IPPROTO_TCP)}}}
	if f.Established {
		p.state, p.status = ctEstablished, ctSeenReply|ctConfirmed|ctSrcNAT
	}
	if f.Translated {
		p.status |= ctDstNAT
	}
	nfproto, protocol := byte(unix.NFPROTO_IPV4), uint16(unix.ETH_P_IP)
	if f.Src.Is6() || f.Dst.Is6() {
		nfproto, protocol = unix.NFPROTO_IPV6, unix.ETH_P_IPV6
	}
	p.meta[expr.MetaKeyNFPROTO] = []byte{nfproto}
	p.meta[expr.MetaKeyPROTOCOL] = binary.BigEndian.AppendUint16(nil, protocol)
	for _, d := range []struct {
		Device
		name, index, group expr.MetaKey
	}{{f.In, expr.MetaKeyIIFNAME, expr.MetaKeyIIF, expr.MetaKeyIIFGROUP}, {f.Out, expr.MetaKeyOIFNAME, expr.MetaKeyOIF, expr.MetaKeyOIFGROUP}} {
		if d.Name != "" {
			p.meta[d.name] = bytes.Clone(deviceKey(d.Name))
			p.meta[d.index] = binary.NativeEndian.AppendUint32(nil, d.Index)
			p.meta[d.group] = binary.NativeEndian.AppendUint32(nil, d.Group)
		}
	}
	return p
}
