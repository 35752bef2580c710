package dns

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
)

// hostAddrs knows the addresses of this host and the index of the device that
// has each. The zero value is ready. It asks the kernel only for sources that
// are no client's, and at most once a second.
type hostAddrs struct {
	mu    sync.Mutex
	read  time.Time
	index map[netip.Addr]int
	links []netip.Prefix // the subnets of the addresses
}

// loopbackIndex is that of the loopback device in every network namespace.
const loopbackIndex = 1

// device returns 0 for an address that is not the host's.
func (h *hostAddrs) device(a netip.Addr) int {
	if a.IsLoopback() {
		return loopbackIndex // all of 127.0.0.0/8, of which one is listed
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refresh()
	return h.index[a]
}

// onLink reports whether an address is in a subnet of one of the host's devices.
func (h *hostAddrs) onLink(a netip.Addr) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refresh()
	return slices.ContainsFunc(h.links, func(p netip.Prefix) bool { return p.Contains(a) })
}

// refresh needs mu.
func (h *hostAddrs) refresh() {
	if time.Since(h.read) > time.Second {
		h.index, h.links = listAddrs()
		h.read = time.Now()
	}
}

// listAddrs asks by rtnetlink(7). If that fails the source is refused, and
// asked about again in a second.
func listAddrs() (map[netip.Addr]int, []netip.Prefix) {
	dump, err := syscall.NetlinkRIB(syscall.RTM_GETADDR, syscall.AF_UNSPEC)
	if err != nil {
		return nil, nil
	}
	messages, err := syscall.ParseNetlinkMessage(dump)
	if err != nil {
		return nil, nil
	}
	var links []netip.Prefix
	index := make(map[netip.Addr]int, len(messages))
	for _, m := range messages {
		if m.Header.Type == syscall.RTM_NEWADDR && len(m.Data) >= syscall.SizeofIfAddrmsg {
			if a := localAddr(m); a.IsValid() {
				index[a] = int(binary.NativeEndian.Uint32(m.Data[4:])) // ifa_index
				links = append(links, netip.PrefixFrom(a, int(m.Data[1])).Masked())
			}
		}
	}
	return index, links
}

// localAddr returns the host's own of the addresses in an RTM_NEWADDR: on a
// point-to-point link IFA_ADDRESS is the other end's and IFA_LOCAL ours.
func localAddr(m syscall.NetlinkMessage) (local netip.Addr) {
	attrs, err := syscall.ParseNetlinkRouteAttr(&m)
	if err != nil {
		return netip.Addr{}
	}
	for _, attr := range attrs {
		a, ok := netip.AddrFromSlice(attr.Value)
		if ok && (attr.Attr.Type == syscall.IFA_LOCAL || attr.Attr.Type == syscall.IFA_ADDRESS && !local.IsValid()) {
			local = a
		}
	}
	return local
}

// scope returns what from sees, nil if it is nobody's address. Clients come
// first: an endpoint may have an address that the host has elsewhere.
func (s *Server) scope(v *view, from source) *scope {
	if c := v.clients[from]; c != nil {
		return c
	}
	if v.gateways[from.addr] || s.local.device(from.addr) != 0 {
		return v.hostScope(from.device)
	}
	return nil
}
