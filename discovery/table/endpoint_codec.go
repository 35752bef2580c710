package table

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/discovery"
)

// Tags of an endpoint's fields. A new field takes the next number; a number is
// never used again.
const (
	tagNetwork = iota + 1
	tagIPv4
	tagIPv6
	tagMAC
	tagSeq
	tagName
	tagAlias
	_              // 8 was a service, which no runtime announced
	tagRuntime     // code of a well known runtime
	tagRuntimeName // any other
	tagHealth
	_ // 12 was a set of flags, which was never set
	tagPort
	tagLabel
	tagTold
)

// runtimes have a code of one byte on the wire; the order is part of the
// format.
var runtimes = []string{"", "netns", "docker", "podman", "cni", "host"}

// appendEndpoint writes all but the id, which stands before it in an op.
// Empty fields take no room.
func appendEndpoint(b []byte, e discovery.Endpoint) []byte {
	b = appendBytes(b, tagNetwork, e.Network[:])
	b = appendAddr(b, tagIPv4, e.IPv4)
	b = appendAddr(b, tagIPv6, e.IPv6)
	if !e.MAC.IsZero() {
		b = appendBytes(b, tagMAC, e.MAC[:])
	}
	b = appendUint(b, tagSeq, e.Seq)
	b = appendBytes(b, tagName, e.Name)
	for _, a := range e.Aliases {
		b = appendBytes(b, tagAlias, a)
	}
	if code := slices.Index(runtimes, e.Runtime); code >= 0 {
		b = appendUint(b, tagRuntime, uint64(code))
	} else {
		b = appendBytes(b, tagRuntimeName, e.Runtime)
	}
	b = appendUint(b, tagHealth, uint64(e.Health))
	for _, p := range e.Ports {
		b = appendBytes(b, tagPort, appendPort(nil, p))
	}
	for _, l := range e.Labels {
		b = appendBytes(b, tagLabel, l)
	}
	b = appendUint(b, tagTold, uint64(e.Told))
	return append(b, e.Unknown...)
}

// A port is its protocol, the host's port, the endpoint's, and the host's address if
// it is not every one.
func appendPort(b []byte, p discovery.Port) []byte {
	b = binary.BigEndian.AppendUint16(append(b, p.Proto), p.HostPort)
	return append(binary.BigEndian.AppendUint16(b, p.Port), p.HostAddr.AsSlice()...)
}

func (f field) port() (p discovery.Port, err error) {
	const fixed = 5
	if len(f.bytes) < fixed {
		return p, fmt.Errorf("port of %d bytes: %w", len(f.bytes), discovery.ErrMalformed)
	}
	p = discovery.Port{Proto: f.bytes[0], HostPort: binary.BigEndian.Uint16(f.bytes[1:]), Port: binary.BigEndian.Uint16(f.bytes[3:])}
	if rest := f.bytes[fixed:]; len(rest) > 0 {
		p.HostAddr, err = field{bytes: rest}.addr()
	}
	return p, err
}

func parseEndpoint(id discovery.EndpointID, b []byte) (discovery.Endpoint, error) {
	e := discovery.Endpoint{ID: id}
	var err error
	e.Unknown, err = fields(b, "endpoint", func(f field) (bool, error) {
		var err error
		var n uint64
		switch f.tag {
		case tagNetwork:
			err = f.into(e.Network[:])
		case tagIPv4:
			e.IPv4, err = f.addr()
		case tagIPv6:
			e.IPv6, err = f.addr()
		case tagMAC:
			err = f.into(e.MAC[:])
		case tagSeq:
			e.Seq, err = f.upTo(math.MaxUint64)
		case tagName:
			e.Name = string(f.bytes)
		case tagAlias:
			e.Aliases = append(e.Aliases, string(f.bytes))
		case tagRuntime:
			if n, err = f.upTo(math.MaxUint64); err == nil && n < uint64(len(runtimes)) {
				e.Runtime = runtimes[n]
			} else if err == nil {
				return false, nil // a runtime that a newer agent has a code for
			}
		case tagRuntimeName:
			e.Runtime = string(f.bytes)
		case tagHealth:
			n, err = f.upTo(math.MaxUint8)
			e.Health = discovery.Health(n)
		case tagPort:
			var p discovery.Port
			p, err = f.port()
			e.Ports = append(e.Ports, p)
		case tagLabel:
			e.Labels = append(e.Labels, string(f.bytes))
		case tagTold:
			n, err = f.upTo(math.MaxUint16)
			e.Told = uint16(n)
		default:
			return false, nil
		}
		return true, err
	})
	return e, err
}

// normal returns the endpoint as it comes back from the wire: addresses of one
// form, aliases sorted, empty lists nil, nothing shared with the caller.
func normalEndpoint(e discovery.Endpoint) discovery.Endpoint {
	e.IPv4, e.IPv6 = unmap(e.IPv4), e.IPv6.WithZone("")
	e.Aliases = cloneOrNil(e.Aliases)
	slices.Sort(e.Aliases)
	e.Ports, e.Labels = cloneOrNil(e.Ports), cloneOrNil(e.Labels)
	e.Unknown = bytes.Clone(e.Unknown)
	return e
}

func unmap(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

func cloneOrNil[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return slices.Clone(s)
}
