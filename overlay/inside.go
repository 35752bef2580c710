package overlay

import (
	"net/netip"
	"slices"
	"time"
)

// Crossing is a packet that begins a conversation, and by that also its answer.
type Crossing struct {
	Src, Dst netip.Addr
	Proto    string // tcp, udp or icmp
	Port     uint16 // of Dst; 0 with icmp
}

// Reversed is the answer to it.
func (c Crossing) Reversed() Crossing { return Crossing{Src: c.Dst, Dst: c.Src, Proto: c.Proto} }

// Inside is what a namespace looks like from within, for one Crossing that begins or
// ends there.
type Inside struct {
	Links []InsideLink
	Way   InsideWay // to the other end
	Drops []InsideDrop
	Ears  []Ear // sorted, of the Crossing's protocol
}

// InsideLink is a device of the namespace.
type InsideLink struct {
	Name  string
	Up    bool
	MTU   int
	MAC   MAC
	Addrs []netip.Prefix
}

// InsideWay is where the namespace sends what is for the other end.
type InsideWay struct {
	Dev string
	Via netip.Addr // zero: on the link
	Src netip.Addr // that its packets have
	Hop MAC        // of the next hop, in the kernel's neighbour table; zero: not there
	Err string     // there is none: the kernel's reason
}

// InsideDrop is a chain in the namespace that drops the Crossing or its answer.
type InsideDrop struct {
	ForeignFilter
	Hook   string // of nft(8): input, output, prerouting
	Answer bool   // it is the answer that is dropped
}

// Ear is a socket that waits for what comes.
type Ear struct {
	Addr netip.Addr // unspecified: every address
	Port uint16
}

// Hears reports whether a socket waits at an address and port.
func (in Inside) Hears(a netip.Addr, port uint16) bool {
	return slices.ContainsFunc(in.Ears, func(e Ear) bool {
		every := e.Addr.IsUnspecified() && (e.Addr.Is6() || a.Is4())
		return e.Port == port && (every || e.Addr == a)
	})
}

// LinkOf is the device with an address.
func (in Inside) LinkOf(a netip.Addr) (InsideLink, bool) {
	for _, l := range in.Links {
		if slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr() == a }) {
			return l, true
		}
	}
	return InsideLink{}, false
}

// Echoes are ICMP echoes that are sent one after the other.
type Echoes struct {
	Src, Dst netip.Addr // Src: the sender's address where it is valid
	Count    int
	Size     int  // bytes of data in each
	Whole    bool // they are not fragmented on the way
}

// Echo is what became of one.
type Echo struct {
	Trial Trial
	Took  time.Duration // when it was answered
}

// Trial is how a try ended that was made from within a namespace.
type Trial string

// The ends of a try. What a UDP datagram met is not known when nobody answers.
const (
	TrialAnswered   Trial = "answered"
	TrialRefused    Trial = "refused"    // a reset, or port unreachable: the way is open, and nobody listens
	TrialProhibited Trial = "prohibited" // a router or filter said so
	TrialNoRoute    Trial = "no route"
	TrialSilent     Trial = "no answer"
	TrialTooLarge   Trial = "larger than the way takes"
)
