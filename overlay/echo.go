package overlay

import "net/netip"

// Speech is what is said to an echo server, from within a namespace.
type Speech struct {
	Proto string // tcp or udp
	Dst   netip.AddrPort
	Size  int // bytes that have to come back as they were
}
