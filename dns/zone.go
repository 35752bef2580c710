package dns

import "net/netip"

// Zone is everything that this host's server may answer from. It is plain data
// and handed over whole; a reader sees either the old one or the new one.
type Zone struct {
	// Domain ends every full name, such as "weft.internal" (no dots around it).
	Domain string
	// Complete: the table was read in full since the agent started. Until then
	// a name under Domain that is not found is answered SERVFAIL, never
	// NXDOMAIN, because a resolver asks again only after the former.
	Complete bool
	Networks []Network // sorted by name
	Hosts    []Host    // underlay addresses, sorted by name; answered under host.<Domain>
	Clients  []Client  // who may ask on which device
	// Address of this host that any program on it may ask, port 53; zero: none.
	// It is listened on without a device and, over UDP, on each network's.
	Address netip.Addr
	// Search are the domains that this host's resolvers append to names.
	Search []string
}

// Network is one network's names and the addresses it is asked on.
type Network struct {
	Name string
	// Device is the gateway port in the host namespace ("g001000") to which
	// this network's listeners are bound. Empty: this host does not carry the
	// network, nothing listens.
	Device   string
	Gateways []netip.Addr // listened on, port 53, UDP and TCP
	// Redirected are addresses of Device to which questions for other servers
	// may be redirected: listened on at Config.RedirectPort.
	Redirected []netip.Addr
	Subnets    []netip.Prefix
	Internal   bool // queries for other domains are refused: no packet leaves
	// HostAccess is false for host_access=none: the host itself does not see
	// the network's names.
	HostAccess bool
	// Answers is how many addresses of one name are given at a time, in turn. Zero:
	// one of this host and one of another. Negative: all.
	Answers int
	Names   []Name
	// Hosts are the members that have an address of their own on the network:
	// its endpoints are given that one for <name>.host.<domain>.
	Hosts []Host
}

// Name is one endpoint's names and addresses. Several endpoints may share one:
// of their addresses are given as many as Network.Answers says.
type Name struct {
	Name    string
	Aliases []string
	Addrs   []netip.Addr
	Here    bool // the endpoint is on this host
	// Unready endpoints (health starting or unhealthy) are left out while a
	// ready one of the same name exists, and given under _all.<name> always, with all others.
	Unready bool
}

// Host is a member's address under <name>.host.<domain>.
type Host struct {
	Name string
	Addr netip.Addr
}

// Client is a local endpoint that may ask: a query that arrives on Device from
// Addr sees the names of Networks. Addresses alone are ambiguous, since
// isolated networks may overlap.
type Client struct {
	Device   string // empty: any that is no gateway port, at Zone.Address
	Addr     netip.Addr
	Networks []string // the first is the one the query came through
}
