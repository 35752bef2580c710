package nft

import (
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
)

// Rules of iptables-nft(8) hold what nft(8) has no expression for as a match or target
// of xtables (linux/netfilter/nf_tables_compat.h). Those that firewalls are made of are
// known here; any other may match.

// xtMatch takes one match.
func (s *step) xtMatch(m *expr.Match) {
	switch i := m.Info.(type) {
	case *xt.Tcp:
		inv := i.InvFlags
		s.xtPorts(i.SrcPorts, i.DstPorts, inv&xt.TcpInvSrcPorts != 0, inv&xt.TcpInvDestPorts != 0)
		if i.FlagsMask != 0 || i.Option != 0 {
			s.mayMatch()
		}
	case *xt.Udp:
		s.xtPorts(i.SrcPorts, i.DstPorts, i.InvFlags&xt.UdpInvSrcPorts != 0, i.InvFlags&xt.UdpInvDestPorts != 0)
	case *xt.ConntrackMtinfo3:
		s.xtState(uint32(i.StateMask), i.MatchFlags, i.InvertFlags)
	case *xt.ConntrackMtinfo2:
		s.xtState(uint32(i.StateMask), i.MatchFlags, i.InvertFlags)
	case *xt.ConntrackMtinfo1:
		s.xtState(uint32(i.StateMask), i.MatchFlags, i.InvertFlags)
	default:
		if m.Name != "comment" {
			s.mayMatch()
		}
	}
}

var everyPort = [2]uint16{0, 65535}

// xtPorts compares ports. Where a packet comes from is any.
func (s *step) xtPorts(src, dst [2]uint16, notSrc, notDst bool) {
	if src != everyPort || notSrc {
		s.mayMatch()
	}
	switch inside := s.port >= dst[0] && s.port <= dst[1]; {
	case dst == everyPort && !notDst:
	case s.port == 0:
		s.mayMatch()
	default:
		s.decide(inside != notDst, false)
	}
}

// xtState compares the state of the connection, whose bits are those of nft(8)'s.
func (s *step) xtState(mask uint32, by, inverted uint16) {
	const state = uint16(xt.ConntrackState | xt.ConntrackStateAlias)
	if by&^state != 0 || by&uint16(xt.ConntrackState) == 0 {
		s.mayMatch()
		return
	}
	s.decide((mask&s.state != 0) != (inverted&uint16(xt.ConntrackState) != 0), false)
}

// xtTarget is what becomes of a packet that a rule is for.
func (s *step) xtTarget(t *expr.Target) *expr.Verdict {
	switch t.Name {
	case "REJECT":
		return &expr.Verdict{Kind: expr.VerdictDrop}
	case "LOG", "NFLOG", "MARK", "CONNMARK", "TCPMSS", "CT", "CHECKSUM":
	default:
		s.mayMatch()
	}
	return nil
}
