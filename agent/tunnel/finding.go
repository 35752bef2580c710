package tunnel

import (
	"fmt"
	"net/netip"
)

// place is where frames are lost, seen along their way.
type place int

const (
	somewhere  place = iota // nobody could look
	atSender                // they do not leave its devices
	between                 // they leave the sender and do not come to the receiver
	atReceiver              // they come to its devices and not through the tunnel
)

// finding is what is wrong between this host and another: frames from one to the
// other are lost at a place. A zero direction means that it is not known which.
type finding struct {
	outward, inward bool // from this host, to this host
	place           place
}

// judge finds out which way frames are lost, and where. here is what this host saw of
// its own volley: requests that left, and replies that arrived.
func judge(here, theirs evidence) finding {
	out := theirs.came == 0
	sender, receiver := here, theirs
	if !out {
		sender, receiver = theirs, here
	}
	f := finding{outward: out, inward: !out}
	switch {
	case receiver.arrived != 0:
		f.place = atReceiver
	case sender.looked && sender.left == 0:
		f.place = atSender
	case sender.looked && receiver.looked:
		f.place = between
	}
	return f
}

// host is one end of a finding, as people know it.
type host struct {
	name string
	addr netip.Addr
}

// say is the finding in words, and what to type about it.
func (f finding) say(self, peer host, port uint16) (why, hint string) {
	from, to := self, peer
	if f.inward {
		from, to = peer, self
	}
	if !f.outward && !f.inward {
		return fmt.Sprintf("%d/udp is blocked between %s and %s", port, from.name, to.name),
			fmt.Sprintf("nft list ruleset # on %s and on %s: %d/udp must pass in both directions", from.name, to.name, port)
	}
	why = fmt.Sprintf("%d/udp is blocked from %s to %s", port, from.name, to.name)
	switch f.place {
	case atSender:
		why += fmt.Sprintf(": %s does not let it out", from.name)
		hint = fmt.Sprintf("nft list ruleset # on %s: %d/udp to %s must go out", from.name, port, to.addr)
	case atReceiver:
		why += fmt.Sprintf(": %s does not let it in", to.name)
		hint = fmt.Sprintf("nft list ruleset # on %s: %d/udp from %s must come in", to.name, port, from.addr)
	case between:
		why += fmt.Sprintf(": it leaves %s and does not come to %s", from.name, to.name)
		hint = fmt.Sprintf("tcpdump -ni any udp port %d and host %s # on %s: a firewall or router between the hosts drops it", port, from.addr, to.name)
	default:
		hint = fmt.Sprintf("nft list ruleset # on %s and on %s: %d/udp must pass in both directions", from.name, to.name, port)
	}
	return why, hint
}
