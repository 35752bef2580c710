package discovery

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// HostID names one host for ever: 128 random bits, made once and kept in the
// host's data directory. It is also the host's memberlist node name, in hex.
type HostID [16]byte

// NetworkID names one network for ever. A network that is deleted and created
// again under the same name has another id.
type NetworkID [16]byte

// EndpointID names one endpoint: 64 random bits, unique in the cluster.
type EndpointID [8]byte

// MAC is a hardware address that can be compared and used as a map key.
type MAC [6]byte

func (h HostID) String() string     { return hex.EncodeToString(h[:]) }
func (n NetworkID) String() string  { return hex.EncodeToString(n[:]) }
func (e EndpointID) String() string { return hex.EncodeToString(e[:]) }

func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// IsZero reports whether the id is unset.
func (h HostID) IsZero() bool { return h == HostID{} }

// IsZero reports whether the id is unset.
func (n NetworkID) IsZero() bool { return n == NetworkID{} }

// IsZero reports whether the id is unset.
func (e EndpointID) IsZero() bool { return e == EndpointID{} }

// IsZero reports whether the address is unset.
func (m MAC) IsZero() bool { return m == MAC{} }

// MarshalText writes the id as 32 hex digits.
func (h HostID) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// MarshalText writes the id as 32 hex digits.
func (n NetworkID) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// MarshalText writes the id as 16 hex digits.
func (e EndpointID) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// MarshalText writes the address as six colon-separated octets.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads 32 hex digits; anything else is ErrMalformed.
func (h *HostID) UnmarshalText(b []byte) error { return unhex(h[:], b, "host id") }

// UnmarshalText reads 32 hex digits; anything else is ErrMalformed.
func (n *NetworkID) UnmarshalText(b []byte) error { return unhex(n[:], b, "network id") }

// UnmarshalText reads 16 hex digits; anything else is ErrMalformed.
func (e *EndpointID) UnmarshalText(b []byte) error { return unhex(e[:], b, "endpoint id") }

// UnmarshalText reads six colon-separated octets; anything else is ErrMalformed.
func (m *MAC) UnmarshalText(b []byte) error {
	if len(b) != 17 {
		return fmt.Errorf("mac %q: %w", b, ErrMalformed)
	}
	var out MAC
	for i := range out {
		if i > 0 && b[i*3-1] != ':' {
			return fmt.Errorf("mac %q: %w", b, ErrMalformed)
		}
		if _, err := hex.Decode(out[i:i+1], b[i*3:i*3+2]); err != nil {
			return fmt.Errorf("mac %q: %w", b, ErrMalformed)
		}
	}
	*m = out
	return nil
}

func unhex(dst, src []byte, what string) error {
	if len(src) != hex.EncodedLen(len(dst)) {
		return fmt.Errorf("%s %q: %w", what, src, ErrMalformed)
	}
	if _, err := hex.Decode(dst, src); err != nil {
		return fmt.Errorf("%s %q: %w", what, src, ErrMalformed)
	}
	return nil
}

// ErrMalformed is wrapped by every error about bytes or text that do not
// decode.
var ErrMalformed = errors.New("malformed")

// MemberStatus says what gossip believes of a member. The zero value is
// StatusDead, so a member nobody spoke of is never taken for alive.
type MemberStatus uint8

const (
	StatusDead      MemberStatus = iota // no answer for the detector's time
	StatusSuspect                       // a probe failed, and nothing is decided yet
	StatusAlive                         // answers probes
	StatusAgentDown                     // its kernel answers (RST on the gossip port), its agent does not
	StatusLeft                          // said goodbye with `agentctl leave`
)

var memberStatusText = [...]string{"dead", "suspect", "alive", "agent-down", "left"}

func (s MemberStatus) String() string {
	if int(s) < len(memberStatusText) {
		return memberStatusText[s]
	}
	return fmt.Sprintf("status(%d)", uint8(s))
}

// Member is one host of the cluster as this host sees it.
type Member struct {
	ID      HostID
	Name    string
	Gossip  netip.AddrPort // where its gossip port answers
	Version string         // of its agent
	Status  MemberStatus
	RTT     time.Duration // of the last direct probe; zero when none was made
	Down    time.Time     // since when Status says so; zero: it is not down, or nobody saw it go
	Header  Header        // the newest one received; zero until then
}

// HeaderFlags are the states that an owner announces of itself.
type HeaderFlags uint32

const (
	// FlagBackSoon is set by the last version before a planned stop: the
	// host's names stay for 60 s after it is found dead.
	FlagBackSoon HeaderFlags = 1 << iota
	// FlagGone is set by the last version of a host that leaves: replicas
	// drop its endpoints and keep only this header.
	FlagGone
)

// Header is what an owner says of itself. It is versioned with the owner's
// endpoints: each change of it is one version.
type Header struct {
	Nonce      uint64 // of this start of the agent; a changed one means a restart
	Name       string // host name
	Version    string // of the agent, for people, such as "v0.1.0-12-gabc1234"
	FormatMin  uint8  // lowest and highest wire format spoken
	FormatMax  uint8
	VTEP       netip.Addr     // where encapsulated packets for this host go
	TunnelPort uint16         // UDP
	WG         *WireGuard     // nil: no encrypted underlay. Encryption, which no agent has yet, will announce its public key here
	MTU        uint16         // of the underlay, in bytes: what passes to every member
	Link       uint16         // MTU of the device, where a path carries less; 0: as MTU
	Avoid      []netip.Prefix // its routes and resolvers: no automatic subnet may overlap them
	GoneHash   uint64         // XOR of table.HashID over the forgotten hosts it knows: acknowledges a fence
	Flags      HeaderFlags
	Networks   []HeaderNetwork // the networks it carries or holds blocks of, sorted by VNI
	Addrs      []netip.Addr    // what else it has beside VTEP, sorted; no endpoint reaches an agent there
	Unknown    []byte          // fields of newer formats, kept as they came
}

// Carries is the MTU of the underlay's device, whatever a path carries; 0: not known.
func (h Header) Carries() uint16 { return max(h.MTU, h.Link) }

// WireGuard is a member's encrypted underlay.
type WireGuard struct {
	Key      [32]byte
	IP       netip.Addr
	Endpoint netip.AddrPort
}

// HeaderNetwork is one network that an owner takes part in.
type HeaderNetwork struct {
	VNI    uint32
	ID     NetworkID
	Blocks []netip.Prefix // held by this host, sorted
}

// Health is what an endpoint's runtime says of it. The zero value, unknown,
// counts as healthy.
type Health uint8

const (
	HealthUnknown Health = iota
	HealthStarting
	HealthHealthy
	HealthUnhealthy
)

// Endpoint is one interface in one sandbox, as its owner announces it.
type Endpoint struct {
	ID      EndpointID
	Network NetworkID
	IPv4    netip.Addr // zero: none
	IPv6    netip.Addr // zero: none
	MAC     MAC
	Seq     uint64   // of the address claim
	Name    string   // lower case; "" is not served by DNS
	Aliases []string // sorted
	Runtime string   // "netns", "docker", "podman", "cni", "host", …
	Health  Health
	Details `json:"-"` // its own host has them elsewhere
	Unknown []byte     // fields of newer formats, kept as they came
}

// Addrs returns the endpoint's addresses, IPv4 first.
func (e Endpoint) Addrs() []netip.Addr {
	out := make([]netip.Addr, 0, 2)
	for _, a := range []netip.Addr{e.IPv4, e.IPv6} {
		if a.IsValid() {
			out = append(out, a)
		}
	}
	return out
}

// Equal reports whether both endpoints say the same.
func (e Endpoint) Equal(o Endpoint) bool {
	return e.ID == o.ID && e.Network == o.Network && e.IPv4 == o.IPv4 && e.IPv6 == o.IPv6 &&
		e.MAC == o.MAC && e.Seq == o.Seq && e.Name == o.Name && e.Runtime == o.Runtime &&
		e.Health == o.Health && e.Details.Equal(o.Details) && slices.Equal(e.Aliases, o.Aliases) &&
		slices.Equal(e.Unknown, o.Unknown)
}

// EndpointStatus is the third column of a record: what may be done with it.
type EndpointStatus uint8

const (
	EndpointLive      EndpointStatus = iota
	EndpointSuspended                // its owner is dead: still programmed, see Record.Hidden for its name
	EndpointPending                  // ours, and no other member has shown that it holds it
)

var endpointStatusText = [...]string{"live", "suspended", "pending"}

func (s EndpointStatus) String() string { return endpointStatusText[s] }

// Record is an endpoint with what the table knows of its owner.
type Record struct {
	Endpoint
	Host   HostID
	Status EndpointStatus
	// Hidden: the owner is dead and its grace is over. DNS does not name it.
	Hidden bool
	// Conflicted: another endpoint announces one of its addresses, or its MAC, and
	// has it. It is not programmed.
	Conflicted bool
}

// Refusal is something that a host announces and that is not believed.
type Refusal struct {
	Host HostID
	What string // "endpoint 3f2a…", or "host" for what it says of itself
	Why  string
}

// View is what gossip knows at one moment. Equal tables give equal views.
type View struct {
	Self      HostID
	Members   []Member  // sorted by name, then id; this host included
	Endpoints []Record  // sorted by network, then id; own ones included
	Refused   []Refusal // of these hosts' states, sorted by host; a few of each
	Complete  bool      // every alive owner was pulled once since this agent started
}

// NetworkState is the life of a network in the pool.
type NetworkState string

const (
	NetworkUp       NetworkState = "up"
	NetworkDeleting NetworkState = "deleting" // no attach, no claim; blocks are being given back
)

// Subnet is the addresses of one family that a network has.
type Subnet struct {
	CIDR    netip.Prefix          `json:"cidr"`
	Gateway netip.Addr            `json:"gateway"`              // the same on every host
	Range   netip.Prefix          `json:"ip_range,omitzero"`    // bounds the blocks; zero: the whole subnet
	Aux     map[string]netip.Addr `json:"aux,omitempty"`        // never handed out
	Bits    int                   `json:"block_bits,omitempty"` // a block has 1<<Bits addresses
}

// HostAccess says what a host may reach of a network, and the other way round.
type HostAccess string

const (
	HostAccessNone  HostAccess = "none"
	HostAccessLocal HostAccess = "local" // the host reaches its own endpoints; the default
	HostAccessFull  HostAccess = "full"  // one address per host; every endpoint is reached
)

// Network is one network of the pool: one VNI.
type Network struct {
	ID       NetworkID         `json:"id"`
	Name     string            `json:"name"`
	VNI      uint32            `json:"vni"`
	State    NetworkState      `json:"state"`
	Force    bool              `json:"force,omitempty"` // with NetworkDeleting: every host detaches its endpoints
	Subnets  []Subnet          `json:"subnets"`         // at most one of each family, IPv4 first
	MTU      int               `json:"mtu"`             // of the inner packet in bytes; 0: derived from the underlay
	Internal bool              `json:"internal"`
	Driver   string            `json:"driver"`
	Labels   map[string]string `json:"labels,omitempty"`
	Options  map[string]string `json:"opts,omitempty"`
	Created  time.Time         `json:"created"`
	By       string            `json:"by"`
}

// ProbeVNI is that of the members' own network: no endpoint, no address. What
// passes in it passes in every other one, since it takes the same tunnel.
const ProbeVNI = 1

// DNSAnswers returns the network's dns_answers option: how many addresses of one name
// an answer has. Zero, when unset: one of the asker's host and one of another.
// Negative: all.
func (n Network) DNSAnswers() int {
	v := n.Options["dns_answers"]
	if v == "all" {
		return -1
	}
	answers, err := strconv.Atoi(v)
	if err != nil || answers < 1 {
		return 0
	}
	return answers
}

// HostAccess returns the network's host_access option, local when unset.
func (n Network) HostAccess() HostAccess {
	if v := n.Options["host_access"]; v != "" {
		return HostAccess(v)
	}
	return HostAccessLocal
}

// Covering returns the subnet that holds a; ok is false when none does.
func (n Network) Covering(a netip.Addr) (s Subnet, ok bool) {
	for _, s := range n.Subnets {
		if s.CIDR.Contains(a) {
			return s, true
		}
	}
	return Subnet{}, false
}

// Registered is what the pool records of a member, that others build upon.
type Registered struct {
	Name   string         `json:"name"`
	VTEP   netip.Addr     `json:"vtep"`
	Gossip netip.AddrPort `json:"gossip"`
}

// Snapshot is the whole cluster as this host sees it: the newest view of
// gossip joined with the newest networks of the pool. It holds nothing that
// only this host needs of its own endpoints.
type Snapshot struct {
	Self      HostID
	Members   []Member
	Networks  []Network // sorted by VNI
	Endpoints []Record
	Refused   []Refusal // the view's
	// Hosts are the members that the pool registers; nil: this host never read them.
	Hosts map[HostID]Registered
	// HostsRead: they are what the pool has now, not what it had before it went away.
	HostsRead bool
	// Complete: the networks were read from the pool and every alive owner was
	// pulled once. Only then may anything be swept.
	Complete bool
}

// SortNetworks sorts by VNI, the order of a Snapshot.
func SortNetworks(n []Network) {
	slices.SortFunc(n, func(a, b Network) int { return cmp.Compare(a.VNI, b.VNI) })
}
