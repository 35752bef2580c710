package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// forget deletes the tracked connections that a change of published ports made
// wrong: translation is decided by a connection's first packet, and a client
// that goes on sending UDP keeps the old decision alive for ever.
func forget(ns *os.File, added, removed []overlay.NFElement) error {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: int(ns.Fd())})
	if err != nil {
		return fmt.Errorf("open the table of tracked connections: %w", err)
	}
	defer c.Close()
	all, err := c.Execute(conntrackMessage(ctGet, netlink.Request|netlink.Dump, nil))
	if err != nil {
		return fmt.Errorf("list tracked connections: %w", err)
	}
	var errs []error
	for _, m := range all {
		f, err := parseFlow(m.Data)
		if err != nil || !f.outdated(added, removed) {
			continue
		}
		_, err = c.Execute(conntrackMessage(ctDelete, netlink.Request|netlink.Acknowledge, f.key))
		if err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("delete a tracked connection to port %d: %w", f.port, err))
		}
	}
	return errors.Join(errs...)
}

// flow is a tracked connection over IPv4.
type flow struct {
	proto  uint8
	dst    netip.Addr // as its first packet had it
	port   uint16
	server netip.AddrPort // who answers
	status uint32
	key    []byte // the attributes by which the kernel finds it
}

// outdated reports whether a flow was translated to a port that is not published
// any more, or was not translated at all because it is older than the
// publication of its port. That matters with UDP only: TCP ends with a reset.
func (f flow) outdated(added, removed []overlay.NFElement) bool {
	const translated = 0x30 // IPS_SRC_NAT, IPS_DST_NAT (linux/netfilter/nf_conntrack_common.h)
	for _, e := range removed {
		if f.to(e) && f.server == netip.AddrPortFrom(e.ToAddr, e.ToPort) {
			return true
		}
	}
	for _, e := range added {
		if f.to(e) && f.proto == unix.IPPROTO_UDP && f.status&translated == 0 {
			return true
		}
	}
	return false
}

// to reports whether a flow is one to the element's port of the host.
func (f flow) to(e overlay.NFElement) bool {
	return f.proto == e.Proto && f.port == e.Port && (!e.Addr.IsValid() || e.Addr.Addr() == f.dst)
}

// Messages and attributes of the table of connections
// (linux/netfilter/nfnetlink_conntrack.h).
const (
	ctGet, ctDelete = 1, 2

	ctOrig, ctReply, ctStatus, ctID, ctZone = 1, 2, 3, 12, 18
	ctTupleIP, ctTupleProto                 = 1, 2
	ctSrc, ctDst                            = 1, 2
	ctProto, ctSrcPort, ctDstPort           = 1, 2, 3
)

func conntrackMessage(typ uint16, flags netlink.HeaderFlags, attributes []byte) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_CTNETLINK<<8 | typ), Flags: flags},
		Data:   append([]byte{unix.AF_INET, unix.NFNETLINK_V0, 0, 0}, attributes...),
	}
}

func parseFlow(data []byte) (f flow, err error) {
	const family = 4 // struct nfgenmsg
	if len(data) < family {
		return f, unix.EINVAL
	}
	ad, err := netlink.NewAttributeDecoder(data[family:])
	if err != nil {
		return f, err
	}
	ad.ByteOrder = binary.BigEndian
	var key []netlink.Attribute
	for ad.Next() {
		switch ad.Type() {
		case ctOrig:
			key = append(key, netlink.Attribute{Type: ctOrig | netlink.Nested, Data: ad.Bytes()})
			ad.Nested(func(ad *netlink.AttributeDecoder) error {
				return tuple(ad, func(_, dst netip.AddrPort, proto uint8) { f.dst, f.port, f.proto = dst.Addr(), dst.Port(), proto })
			})
		case ctReply:
			ad.Nested(func(ad *netlink.AttributeDecoder) error {
				return tuple(ad, func(src, _ netip.AddrPort, _ uint8) { f.server = src })
			})
		case ctStatus:
			f.status = ad.Uint32()
		case ctID, ctZone:
			key = append(key, netlink.Attribute{Type: ad.Type(), Data: ad.Bytes()})
		}
	}
	if err := ad.Err(); err != nil {
		return f, err
	}
	f.key, err = netlink.MarshalAttributes(key)
	return f, err
}

// tuple reads one direction of a flow.
func tuple(ad *netlink.AttributeDecoder, take func(src, dst netip.AddrPort, proto uint8)) error {
	var src, dst netip.Addr
	var srcPort, dstPort uint16
	var proto uint8
	for ad.Next() {
		switch ad.Type() {
		case ctTupleIP:
			ad.Nested(func(ad *netlink.AttributeDecoder) error {
				for ad.Next() {
					switch ad.Type() {
					case ctSrc:
						src, _ = netip.AddrFromSlice(ad.Bytes())
					case ctDst:
						dst, _ = netip.AddrFromSlice(ad.Bytes())
					}
				}
				return nil
			})
		case ctTupleProto:
			ad.Nested(func(ad *netlink.AttributeDecoder) error {
				ad.ByteOrder = binary.BigEndian
				for ad.Next() {
					switch ad.Type() {
					case ctProto:
						proto = ad.Uint8()
					case ctSrcPort:
						srcPort = ad.Uint16()
					case ctDstPort:
						dstPort = ad.Uint16()
					}
				}
				return nil
			})
		}
	}
	take(netip.AddrPortFrom(src, srcPort), netip.AddrPortFrom(dst, dstPort), proto)
	return nil
}
