package dns

import (
	"net/netip"
	"slices"
)

// view is a Zone made ready for questions. It never changes; Set puts another
// in its place.
type view struct {
	domain   string // folded
	complete bool
	serial   uint32 // of the SOA record: grows with each Set
	forward  bool   // single labels that nobody here has are asked upstream

	networks []*index // in the order of the zone
	byName   map[string]*index
	hosts    map[string][]netip.Addr
	clients  map[source]*scope
	deviceOf map[netip.Addr]string // of clients whose address no other has, that ask at the shared address over TCP
	gateways map[netip.Addr]bool   // of networks that this host carries
	devices  map[string]*scope     // what the host itself sees, by the device it asked on
	host     *scope                // and if it asked on none
	address  netip.Addr            // of the zone
	search   []string              // folded
}

// source is where a query came from: the address alone is ambiguous, since
// isolated networks may overlap.
type source struct {
	device string
	addr   netip.Addr
}

// scope is what one asker sees.
type scope struct {
	first    *index // searched before networks; may be nil
	networks []*index
	client   bool // an endpoint, not the host itself
	// addr is what it asks from, and most likely what it will connect from.
	addr netip.Addr
	// confined askers are on internal networks only: nothing of theirs may
	// leave this host.
	confined bool
}

// newView indexes z, sharing with old, the view before it, what is equal.
func newView(z Zone, old *view, forward bool) *view {
	v := &view{
		domain: fold(z.Domain), complete: z.Complete, serial: old.serial + 1, forward: forward,
		byName:   make(map[string]*index, len(z.Networks)),
		hosts:    make(map[string][]netip.Addr, len(z.Hosts)),
		clients:  make(map[source]*scope, len(z.Clients)),
		deviceOf: make(map[netip.Addr]string, len(z.Clients)),
		gateways: make(map[netip.Addr]bool),
		devices:  make(map[string]*scope),
		address:  z.Address,
	}
	for _, domain := range z.Search {
		if domain = fold(domain); domain != "" && domain != v.domain {
			v.search = append(v.search, domain)
		}
	}
	for _, n := range z.Networks {
		x := newIndex(n, old.byName[fold(n.Name)])
		v.networks = append(v.networks, x)
		v.byName[x.key] = x
	}
	for _, h := range z.Hosts {
		key := fold(h.Name)
		v.hosts[key] = append(v.hosts[key], h.Addr)
	}
	v.addHost()
	for _, c := range z.Clients {
		from := source{c.Device, c.Addr.Unmap()}
		v.clients[from] = v.clientScope(c)
		if device, twice := v.deviceOf[from.addr]; twice && device != from.device {
			from.device = "" // with the address alone it could be either
		}
		v.deviceOf[from.addr] = from.device
	}
	return v
}

// addHost derives what the host itself sees: every network that lets it, the
// one whose gateway it asked first.
func (v *view) addHost() {
	var seen []*index
	for _, x := range v.networks {
		if x.HostAccess {
			seen = append(seen, x)
		}
	}
	v.host = &scope{networks: seen}
	for _, x := range v.networks {
		if x.Device == "" {
			continue
		}
		s := &scope{networks: seen}
		if x.HostAccess {
			s.first = x
		}
		v.devices[x.Device] = s
		for _, a := range x.Gateways {
			v.gateways[a], s.addr = true, a
		}
	}
}

func (v *view) clientScope(c Client) *scope {
	s := &scope{client: true, confined: true, addr: c.Addr.Unmap()}
	for _, name := range c.Networks {
		if x := v.byName[fold(name)]; x != nil {
			s.networks = append(s.networks, x)
			s.confined = s.confined && x.Internal
		}
	}
	return s
}

// hostScope is what the host sees when it asks on device; "" is no device.
func (v *view) hostScope(device string) *scope {
	if s := v.devices[device]; s != nil {
		return s
	}
	return v.host
}

// find looks key up in the networks of s, in their order, and returns the
// first hit: an asker's own network goes before the others that it is on.
func (s *scope) find(key string) (hit, bool) {
	if s.first != nil {
		if h, ok := s.first.lookup(key); ok {
			return h, true
		}
	}
	for _, x := range s.networks {
		if h, ok := x.lookup(key); ok {
			return h, true
		}
	}
	return hit{}, false
}

func (s *scope) sees(x *index) bool { return x != nil && slices.Contains(s.networks, x) }
