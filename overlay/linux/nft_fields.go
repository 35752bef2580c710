package linux

import (
	"github.com/google/nftables/expr"
)

// field is what a rule can look at: its name, where the kernel finds it and how
// its values are written.
type field struct {
	name  string
	load  expr.Any // without a register
	size  int      // bytes
	value notation
	of    string // the transport protocol without which the bytes mean something else
	any   bool   // a match takes any of the bits, not all
}

func meta(name string, key expr.MetaKey, size int, v notation) field {
	return field{name: name, load: &expr.Meta{Key: key}, size: size, value: v}
}

func payload(name string, base expr.PayloadBase, offset, size int, v notation) field {
	return field{name: name, load: &expr.Payload{Base: base, Offset: uint32(offset), Len: uint32(size)}, size: size, value: v}
}

// transport is a field of one transport protocol's header.
func transport(of, name string, offset, size int, v notation) field {
	f := payload(name, expr.PayloadBaseTransportHeader, offset, size, v)
	f.of = of
	return f
}

// fields has the header layouts of RFC 791, 8200, 792, 4443, 4861 and 826.
var fields = []field{
	meta("meta nfproto", expr.MetaKeyNFPROTO, 1, familyNames),
	meta("meta l4proto", expr.MetaKeyL4PROTO, 1, protocolNames),
	meta("meta iifgroup", expr.MetaKeyIIFGROUP, 4, groups),
	meta("meta oifgroup", expr.MetaKeyOIFGROUP, 4, groups),
	meta("iifname", expr.MetaKeyIIFNAME, ifnameSize, devices),
	meta("oifname", expr.MetaKeyOIFNAME, ifnameSize, devices),
	{name: "ct state", load: &expr.Ct{Key: expr.CtKeySTATE}, size: 4, value: states, any: true},
	{name: "ct status", load: &expr.Ct{Key: expr.CtKeySTATUS}, size: 4, value: statuses, any: true},
	{name: "fib daddr type", load: &expr.Fib{ResultADDRTYPE: true, FlagDADDR: true}, size: 4, value: routeNames},
	payload("ether saddr", expr.PayloadBaseLLHeader, 6, 6, opaque),
	payload("ether type", expr.PayloadBaseLLHeader, 12, 2, etherNames),
	payload("arp saddr ether", expr.PayloadBaseNetworkHeader, 8, 6, opaque),
	payload("arp saddr ip", expr.PayloadBaseNetworkHeader, 14, 4, addresses),
	payload("ip saddr", expr.PayloadBaseNetworkHeader, 12, 4, addresses),
	payload("ip daddr", expr.PayloadBaseNetworkHeader, 16, 4, addresses),
	payload("ip6 saddr", expr.PayloadBaseNetworkHeader, 8, 16, addresses),
	payload("ip6 daddr", expr.PayloadBaseNetworkHeader, 24, 16, addresses),
	payload("th sport", expr.PayloadBaseTransportHeader, 0, 2, ports),
	payload("th dport", expr.PayloadBaseTransportHeader, 2, 2, ports),
	transport("icmp", "icmp type", 0, 1, icmpNames),
	transport("ipv6-icmp", "icmpv6 type", 0, 1, icmp6Names),
	transport("ipv6-icmp", "icmpv6 taddr", 8, 16, addresses),
}

// loading returns the expression that loads size bytes of the field, all of
// them or the first ones, into a register.
func (f field) loading(register uint32, size int) expr.Any {
	switch e := f.load.(type) {
	case *expr.Meta:
		return &expr.Meta{Key: e.Key, Register: register}
	case *expr.Payload:
		return &expr.Payload{DestRegister: register, Base: e.Base, Offset: e.Offset, Len: uint32(size)}
	case *expr.Ct:
		return &expr.Ct{Key: e.Key, Register: register}
	case *expr.Fib:
		return &expr.Fib{ResultADDRTYPE: true, FlagDADDR: true, Register: register}
	}
	return nil
}

// loaded returns the field that an expression loads, given the transport
// protocol that the rule has asked for.
func loaded(e expr.Any, protocol string) (field, bool) {
	for _, f := range fields {
		if (f.of == "" || f.of == protocol) && f.loadedBy(e) {
			return f, true
		}
	}
	return field{}, false
}

func (f field) loadedBy(e expr.Any) bool {
	switch e := e.(type) {
	case *expr.Meta:
		want, ok := f.load.(*expr.Meta)
		return ok && want.Key == e.Key && !e.SourceRegister
	case *expr.Payload:
		want, ok := f.load.(*expr.Payload)
		return ok && want.Base == e.Base && want.Offset == e.Offset &&
			(want.Len == e.Len || f.size == 4 && e.Len < want.Len)
	case *expr.Ct:
		want, ok := f.load.(*expr.Ct)
		return ok && want.Key == e.Key
	case *expr.Fib:
		_, ok := f.load.(*expr.Fib)
		return ok && e.ResultADDRTYPE && e.FlagDADDR
	}
	return false
}

// Registers: four of sixteen bytes, each of which is four small ones
// (linux/netfilter/nf_tables.h).
const (
	firstRegister      = 1
	firstSmallRegister = 8
	wordsPerRegister   = 4
)

// register is the number of the register that begins at a word. The kernel
// reports the large ones by their own number.
func register(word int) uint32 {
	if word%wordsPerRegister == 0 {
		return uint32(firstRegister + word/wordsPerRegister)
	}
	return uint32(firstSmallRegister + word)
}

func words(size int) int { return (size + 3) / 4 }
