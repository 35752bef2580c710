package ipam

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/weft-net/weft/discovery"
)

// Three messages pass between members, all answered: LEND asks for an address
// out of the receiver's block, RETURN gives it back, and CHECK asks whether a
// reservation in the receiver's name is still needed.
//
//	request: version, kind, network id (16), loan (8, big endian), family (4 or 6), address (0, 4 or 16)
//	answer:  version, outcome, host (16), endpoint (8), address (0, 4 or 16)
//
// A LEND without an address asks for any of the family; a RETURN without one
// names the loan alone. The loan is the borrower's number for one attempt: a
// RETURN that was delayed cannot end a later loan of the same address.
const messageVersion = 1

type kind byte

const (
	kindLend   kind = 1
	kindReturn kind = 2
	kindCheck  kind = 3
)

type request struct {
	kind    kind
	network discovery.NetworkID
	loan    uint64
	v6      bool
	addr    netip.Addr // zero: any, or not known
}

type outcome byte

const (
	outcomeYes     outcome = 1 // it is lent, or it was returned
	outcomeTaken   outcome = 2 // host and endpoint say by whom
	outcomeNotMine outcome = 3 // neither the block nor the address is held here
	outcomeNone    outcome = 4 // no address to spare
	outcomeRefused outcome = 5 // not understood, or it could not be written down
)

type answer struct {
	outcome  outcome
	host     discovery.HostID
	endpoint discovery.EndpointID
	addr     netip.Addr
}

func (r request) encode() []byte {
	out := append([]byte{messageVersion, byte(r.kind)}, r.network[:]...)
	out = binary.BigEndian.AppendUint64(out, r.loan)
	family := byte(4)
	if r.v6 {
		family = 6
	}
	return append(append(out, family), r.addr.AsSlice()...)
}

func decodeRequest(b []byte) (request, error) {
	const fixed = 2 + 16 + 8 + 1
	if len(b) < fixed || b[0] != messageVersion {
		return request{}, fmt.Errorf("loan request of %d bytes: %w", len(b), discovery.ErrMalformed)
	}
	r := request{
		kind: kind(b[1]), network: discovery.NetworkID(b[2:18]),
		loan: binary.BigEndian.Uint64(b[18:26]), v6: b[26] == 6,
	}
	addr, ok := decodeAddr(b[fixed:])
	if !ok || b[26] != 4 && b[26] != 6 || addr.IsValid() && addr.Is6() != r.v6 {
		return request{}, fmt.Errorf("loan request: address: %w", discovery.ErrMalformed)
	}
	r.addr = addr
	return r, nil
}

func (a answer) encode() []byte {
	out := append([]byte{messageVersion, byte(a.outcome)}, a.host[:]...)
	out = append(out, a.endpoint[:]...)
	return append(out, a.addr.AsSlice()...)
}

func decodeAnswer(b []byte) (answer, error) {
	const fixed = 2 + 16 + 8
	if len(b) < fixed || b[0] != messageVersion {
		return answer{}, fmt.Errorf("loan answer of %d bytes: %w", len(b), discovery.ErrMalformed)
	}
	a := answer{outcome: outcome(b[1]), host: discovery.HostID(b[2:18]), endpoint: discovery.EndpointID(b[18:26])}
	var ok bool
	if a.addr, ok = decodeAddr(b[fixed:]); !ok {
		return answer{}, fmt.Errorf("loan answer: address: %w", discovery.ErrMalformed)
	}
	return a, nil
}

// decodeAddr reads no address, an IPv4 or an IPv6 one. IPv4 in IPv6's clothes
// is refused: it would be a second spelling of one address.
func decodeAddr(b []byte) (netip.Addr, bool) {
	if len(b) == 0 {
		return netip.Addr{}, true
	}
	a, ok := netip.AddrFromSlice(b)
	return a, ok && !a.Is4In6()
}
