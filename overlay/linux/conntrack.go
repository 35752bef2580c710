package linux

import (
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/netns"
)

// forget deletes the tracked connections that a change of published ports made
// wrong: translation is decided by a connection's first packet, and a client
// that goes on sending UDP keeps the old decision alive for ever.
func forget(ns *os.File, added, removed []overlay.NFElement) error {
	if len(added)+len(removed) == 0 {
		return nil
	}
	h, err := netns.Handle(ns, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer h.Close()
	_, err = netns.Repeat(func() (uint, error) {
		return h.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, outdated{added, removed})
	})
	return wrap(err, "delete tracked connections")
}

// outdated are the flows that were translated to a port that is not published
// any more, or were not translated at all because they are older than the
// publication of their port. That matters with UDP only: TCP ends with a reset.
type outdated struct {
	added, removed []overlay.NFElement
}

// MatchConntrackFlow reports whether a flow is one of them.
func (o outdated) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	server := netip.AddrPortFrom(toAddr(f.Reverse.SrcIP), f.Reverse.SrcPort)
	for _, e := range o.removed {
		if isTo(f, e) && server == netip.AddrPortFrom(e.ToAddr, e.ToPort) {
			return true
		}
	}
	for _, e := range o.added {
		if isTo(f, e) && f.Forward.Protocol == unix.IPPROTO_UDP && !translated(f) {
			return true
		}
	}
	return false
}

// isTo reports whether a flow is one to the element's port of the host.
func isTo(f *netlink.ConntrackFlow, e overlay.NFElement) bool {
	return f.Forward.Protocol == e.Proto && f.Forward.DstPort == e.Port && (!e.Addr.IsValid() || e.Addr.Addr() == toAddr(f.Forward.DstIP))
}

// translated reports whether answers come from or go to elsewhere than the
// packets that they answer say. The library leaves out the status, in which the
// kernel has a bit for it.
func translated(f *netlink.ConntrackFlow) bool {
	there, back := f.Forward, f.Reverse
	return !there.SrcIP.Equal(back.DstIP) || !there.DstIP.Equal(back.SrcIP) || there.SrcPort != back.DstPort || there.DstPort != back.SrcPort
}
