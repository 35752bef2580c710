package nft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// Hook is a place where the kernel shows a packet to chains, by its name in nft(8).
type Hook string

// The hooks that a packet passes: at its ends, and Forward between them.
const (
	Prerouting Hook = "prerouting"
	Input      Hook = "input"
	Output     Hook = "output"
	Forward    Hook = "forward"
)

var hookNumbers = map[Hook]*nftables.ChainHook{Prerouting: nftables.ChainHookPrerouting, Input: nftables.ChainHookInput, Output: nftables.ChainHookOutput}

// Dropping are the chains at a hook of a namespace that drop a packet, whoever made
// them: by their policy, or by a rule of which nothing in the packet says that it is
// not meant. except is a table that is left out, empty for none. An answer belongs to a
// connection that is established. dev is the device that it comes or goes by; of one
// without a name nothing is known.
func Dropping(ns *os.File, hook Hook, dev Device, c overlay.Crossing, answer bool, except string) (all []overlay.ForeignFilter, err error) {
	t, err := open(Config{Log: slog.New(slog.DiscardHandler)}, ns, overlay.Host, nftables.Table{Name: except})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	flow := Flow{Name: string(hook), Src: c.Src, Dst: c.Dst, Established: answer, Proto: protocols[c.Proto], Port: c.Port}
	if flow.In = dev; hook == Output {
		flow.In, flow.Out = Device{}, dev
	}
	for _, family := range []nftables.TableFamily{nftables.TableFamilyINet, nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		t.setReadDeadline()
		chains, err := t.conn.ListChainsOfTableFamily(family)
		if err != nil {
			return nil, err
		}
		for _, c := range chains {
			if c.Hooknum == nil || *c.Hooknum != *hookNumbers[hook] || except != "" && c.Table.Name == except || c.Type == nftables.ChainTypeNAT {
				continue
			}
			found, _, err := t.judge(c, []Flow{flow})
			if err != nil {
				return nil, err
			}
			if found != nil {
				all = append(all, *found)
			}
		}
	}
	return all, nil
}

var protocols = map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "icmp": unix.IPPROTO_ICMP}

// Types of ICMP messages (RFC 792).
const (
	echo      = 8
	echoReply = 0
)

// loadTransport knows the port that a packet goes to, which of an answer is any, or
// the type of an ICMP message.
func (s *step) loadTransport(p *expr.Payload) (v value) {
	switch {
	case p.Base != expr.PayloadBaseTransportHeader:
	case p.Offset == 2 && p.Len == 2 && s.port != 0:
		v = value{data: binary.BigEndian.AppendUint16(nil, s.port), known: true}
	case p.Offset == 0 && p.Len == 1 && bytes.Equal(s.meta[expr.MetaKeyL4PROTO], []byte{unix.IPPROTO_ICMP}):
		v = value{data: []byte{echo}, known: true}
		if s.state == ctEstablished {
			v.data[0] = echoReply
		}
	}
	return v
}
