package api

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what sort of failure an Error is. agentctl turns it into its exit
// code, the handler into an HTTP status.
type Kind string

const (
	KindFailed      Kind = "failed"      // exit 1, HTTP 500
	KindMisuse      Kind = "misuse"      // exit 2, HTTP 400
	KindUnreachable Kind = "unreachable" // exit 3, made by the client
	KindNotFound    Kind = "not-found"   // exit 4, HTTP 404
	KindConflict    Kind = "conflict"    // exit 5, HTTP 409
	KindTimeout     Kind = "timeout"     // exit 6, HTTP 504
	KindPermission  Kind = "permission"  // exit 7, HTTP 403
)

// Error is what every failed call returns: what and why in one line, and the
// next command to type. Its message holds both parts of "what: why".
type Error struct {
	Kind    Kind   `json:"kind"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

func (e *Error) Error() string { return e.Message }

// Errorf makes an Error; the hint is added with WithHint.
func Errorf(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Message: fmt.Sprintf(format, args...)}
}

// WithHint adds the command that the user should type next.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// KindOf returns the kind of err, KindFailed when it is no Error.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return KindFailed
}

// Check states, worst last. A Status is as bad as its worst check.
const (
	CheckOK   = "ok"
	CheckWarn = "warn"
	CheckFail = "fail"
)

// Status answers GET /v1/status.
type Status struct {
	State   string  `json:"state"` // ok, starting, degraded, down, not-a-member, forgotten
	Name    string  `json:"name"`
	Cluster string  `json:"cluster"` // id, empty when not a member
	Version string  `json:"version"`
	Address string  `json:"address"`
	Fabric  string  `json:"fabric"` // path of the fabric namespace
	PID     int     `json:"pid"`
	Checks  []Check `json:"checks"`
	Docker  *Docker `json:"docker,omitempty"` // nil: a host without Docker
}

// Docker is what decides where the containers of this host's engine ask for
// names.
type Docker struct {
	Socket     string   `json:"socket"`
	Engine     string   `json:"engine"`      // version; empty: none answers
	ResolvConf []string `json:"resolv_conf"` // the host's resolvers
	DaemonDNS  []string `json:"daemon_dns"`  // of daemon.json
}

// Check is one line of Status.
type Check struct {
	Name   string `json:"name"`
	State  string `json:"state"` // ok, warn, fail
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
	// Since is when it was first seen to be in this state; zero: it is ok, or always was so.
	Since time.Time `json:"since,omitzero"`
}

// InitRequest makes this host the first of a new cluster. Empty fields take
// the configuration's value, else the default.
type InitRequest struct {
	Consul string `json:"consul,omitempty"` // URL, or several with commas between; empty: the embedded store
	Pool   string `json:"pool,omitempty"`   // CIDR for automatic subnets
	Domain string `json:"domain,omitempty"`
	Adopt  bool   `json:"adopt,omitempty"` // take over a prefix whose hosts are all gone

	GossipPort uint16 `json:"gossip_port,omitempty"` // TCP and UDP
	TunnelPort uint16 `json:"tunnel_port,omitempty"` // UDP
	Profile    string `json:"profile,omitempty"`     // "lan" or "wan"
}

// InitResult answers init.
type InitResult struct {
	Cluster   string `json:"cluster"`
	TokenFile string `json:"token_file"` // absolute path, mode 0600
	Join      string `json:"join"`       // the command to type on the next host
}

// JoinRequest makes this host a member.
type JoinRequest struct {
	Addresses []string `json:"addresses"` // of members, host or host:port
	Token     string   `json:"token"`
	Consul    string   `json:"consul,omitempty"` // overrides the token's address; of a member it changes where it asks
	Replace   bool     `json:"replace,omitempty"`
}

// JoinResult answers join.
type JoinResult struct {
	Cluster string   `json:"cluster"`
	Members []string `json:"members"`           // names of the members that see this host
	Already bool     `json:"already,omitempty"` // it was a member of the cluster before
	// Store is where this host asks the cluster's store from now on; empty: where it did.
	Store string `json:"store,omitempty"`
}

// LeaveRequest takes this host, or with Force the dead host Name, out of the
// cluster.
type LeaveRequest struct {
	Name  string `json:"name,omitempty"`
	Force bool   `json:"force,omitempty"`
	Purge bool   `json:"purge,omitempty"` // detach endpoints instead of refusing
	Wait  bool   `json:"wait,omitempty"`  // wait until nothing runs here
	// EvenIfRunning takes out a host that is alive, or whose agent is down while endpoints
	// run on it: their addresses are given to others.
	EvenIfRunning bool `json:"even_if_running,omitempty"`
}

// Member is one row of members.
type Member struct {
	Name    string  `json:"name"`
	ID      string  `json:"id"`
	Address string  `json:"address"`
	Status  string  `json:"status"` // alive, suspect, agent-down, dead, left
	Version string  `json:"version"`
	RTT     float64 `json:"rtt_ms"`
	// Tunnel is the worst of what was proven of the tunnel to it: ok, failing, stale,
	// unproven; empty: nothing is proven to this member, which is this host, or not alive.
	Tunnel string `json:"tunnel,omitempty"`
	// TunnelAge is how old the newest proof is, in seconds; 0 when there is none.
	TunnelAge float64 `json:"tunnel_age_s,omitempty"`
}

// NetworkCreateRequest is `network create`, in Docker's words.
type NetworkCreateRequest struct {
	Name         string            `json:"name"`
	Subnets      []string          `json:"subnets,omitempty"`
	Gateways     []string          `json:"gateways,omitempty"`
	IPRanges     []string          `json:"ip_ranges,omitempty"`
	AuxAddresses map[string]string `json:"aux_addresses,omitempty"`
	Internal     bool              `json:"internal,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	Options      map[string]string `json:"options,omitempty"` // -o k=v
	Driver       string            `json:"driver,omitempty"`
}

// NetworkCreateResult answers network create.
type NetworkCreateResult struct {
	Network  Network  `json:"network"`
	Warnings []string `json:"warnings,omitempty"`
}

// Network is what `network inspect` prints: Docker's field names.
type Network struct {
	Name       string               `json:"Name"`
	ID         string               `json:"Id"`
	Created    time.Time            `json:"Created"`
	Scope      string               `json:"Scope"` // "global"
	Driver     string               `json:"Driver"`
	EnableIPv6 bool                 `json:"EnableIPv6"`
	Internal   bool                 `json:"Internal"`
	Labels     map[string]string    `json:"Labels"`
	Options    map[string]string    `json:"Options"`
	IPAM       IPAM                 `json:"IPAM"`
	VNI        uint32               `json:"VNI"`
	MTU        int                  `json:"MTU"`
	State      string               `json:"State"` // up, deleting
	Containers map[string]Container `json:"Containers"`
}

// IPAM is the addresses of a Network.
type IPAM struct {
	Driver string       `json:"Driver"`
	Config []IPAMConfig `json:"Config"`
}

// IPAMConfig is one subnet.
type IPAMConfig struct {
	Subnet             string            `json:"Subnet"`
	Gateway            string            `json:"Gateway"`
	IPRange            string            `json:"IPRange,omitempty"`
	AuxiliaryAddresses map[string]string `json:"AuxiliaryAddresses,omitempty"`
	// Addresses are how many endpoints may have without asking for one; 0: not known.
	Addresses uint64 `json:"Addresses,omitempty"`
	// Blocks are the parts of the subnet that each host, by name, hands out.
	Blocks map[string][]string `json:"Blocks,omitempty"`
}

// Container is one endpoint in `network inspect`, of any host.
type Container struct {
	Name        string `json:"Name"`
	EndpointID  string `json:"EndpointID"`
	MacAddress  string `json:"MacAddress"`
	IPv4Address string `json:"IPv4Address"` // with the length of the subnet
	IPv6Address string `json:"IPv6Address"`
	Host        string `json:"Host"`
}

// AttachRequest puts an interface on a network into a sandbox. Exactly one of
// Netns and PID is set.
type AttachRequest struct {
	Network        string   `json:"network"`
	Netns          string   `json:"netns,omitempty"` // name below /run/netns, or a path
	PID            int      `json:"pid,omitempty"`
	Name           string   `json:"name"`
	Aliases        []string `json:"aliases,omitempty"`
	IP             string   `json:"ip,omitempty"`
	MAC            string   `json:"mac,omitempty"`
	Ifname         string   `json:"ifname,omitempty"` // eth0 when empty
	NoDefaultRoute bool     `json:"no_default_route,omitempty"`
	// Labels are shown on all hosts, as far as there is room for them.
	Labels map[string]string `json:"labels,omitempty"`
	// Of a container runtime's plugin only: who asks, and the runtime's id of
	// the container, by which DetachContainer finds the endpoint again.
	Runtime   string   `json:"runtime,omitempty"` // cni, podman, containerd; netns when empty
	Container string   `json:"container,omitempty"`
	Ports     []string `json:"ports,omitempty"` // to publish, as docker run -p: [IP:]8080:80[/udp]
}

// ContainerRef names an endpoint as a container runtime does. An interface name
// is needed where a container is on a network twice.
type ContainerRef struct {
	Network   string
	Container string // the runtime's id
	Ifname    string // empty: every interface of the container
}

// ConnectRequest puts a container of this host on one more network, under the
// name that it has.
type ConnectRequest struct {
	Network   string   `json:"network"`
	Container string   `json:"container"` // endpoint name or id, or the runtime's id, or the beginning of an id
	Aliases   []string `json:"aliases,omitempty"`
	IP        string   `json:"ip,omitempty"`
	MAC       string   `json:"mac,omitempty"`
}

// DisconnectRequest takes a container of this host off a network.
type DisconnectRequest struct {
	Network   string `json:"network"`
	Container string `json:"container"`       // as in ConnectRequest
	Force     bool   `json:"force,omitempty"` // one that is not on the network is no error
}

// PruneRequest removes the networks that no endpoint of any host is on,
// suspended ones counted. Empty fields select all of them.
type PruneRequest struct {
	Until     string   `json:"until,omitempty"`      // made before: a duration ("24h") back from now, or a date and time
	Labels    []string `json:"labels,omitempty"`     // with all of these: KEY or KEY=VALUE
	NotLabels []string `json:"not_labels,omitempty"` // with none of these
}

// PruneResult answers prune.
type PruneResult struct {
	Deleted  []string `json:"deleted"`            // names
	Failures []Error  `json:"failures,omitempty"` // of networks that could not be removed
}

// Attachment answers attach and connect.
type Attachment struct {
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	Network   string   `json:"network"`
	Address   string   `json:"address"` // "10.64.0.5/20"
	Gateway   string   `json:"gateway"`
	DNS       []string `json:"dns"`
	Search    []string `json:"search"`
	MAC       string   `json:"mac"`
	MTU       int      `json:"mtu"`
	Interface string   `json:"interface"`
	Ports     []string `json:"ports,omitempty"` // published, as docker ps: 0.0.0.0:8080->80/tcp
	Notices   []string `json:"notices,omitempty"`
}

// Endpoint is one row of `endpoint ls`.
type Endpoint struct {
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	Aliases   []string          `json:"aliases"`
	Network   string            `json:"network"`
	Address   string            `json:"address"`
	MAC       string            `json:"mac"`
	Host      string            `json:"host"`
	Status    string            `json:"status"` // live, suspended, pending
	Runtime   string            `json:"runtime"`
	Local     bool              `json:"local"` // it lives on this host, which alone knows Sandbox, Interface and Container
	Sandbox   string            `json:"sandbox,omitempty"`
	Interface string            `json:"interface,omitempty"`
	Container string            `json:"container,omitempty"` // the runtime's id
	Labels    map[string]string `json:"labels,omitempty"`
	Ports     []string          `json:"ports,omitempty"` // published, as in Attachment
	Detailed  bool              `json:"detailed"`        // Labels and Ports are known; false: its host is of an older release
	More      int               `json:"more,omitempty"`  // labels and ports that its host has not told, being too many
}

// EndpointFilter selects endpoints; empty fields select all.
type EndpointFilter struct {
	Network string `json:"network,omitempty"`
	Host    string `json:"host,omitempty"`
	All     bool   `json:"all,omitempty"` // suspended ones of other hosts too
}

// DNSQuery asks the agent's DNS server as From would.
type DNSQuery struct {
	Name string `json:"name"`
	Type string `json:"type,omitempty"` // "A" when empty
	From string `json:"from,omitempty"` // endpoint name or id; empty: as the host
}

// DNSAnswer is the reply, each record in presentation format.
type DNSAnswer struct {
	Rcode     string   `json:"rcode"`
	Answer    []string `json:"answer"`
	Authority []string `json:"authority,omitempty"`
	Values    []string `json:"values"`  // the data alone: addresses, names
	Took      float64  `json:"took_ms"` // in the server
}

// Version answers GET /v1/version.
type Version struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
}

// VerifyRequest compares the kernel with what is wanted.
type VerifyRequest struct {
	Repair bool `json:"repair,omitempty"` // and makes it so
	All    bool `json:"all,omitempty"`    // on every alive member
}

// Verification answers verify.
type Verification struct {
	Drift   []Drift `json:"drift"`
	Checked int     `json:"checked"` // objects that are wanted
	// Unasked are the members that did not answer; only with All.
	Unasked []Unasked `json:"unasked,omitempty"`
}

// Drift is one object of a kernel that is not as wanted.
type Drift struct {
	Object   string `json:"object"` // the command that mends it
	Kind     string `json:"kind"`   // missing, extra or different
	Network  string `json:"network,omitempty"`
	Host     string `json:"host"`
	Repaired bool   `json:"repaired"`
}

// Unasked is a member without whose answer a reply is not the whole one.
type Unasked struct {
	Host string `json:"host"`
	Why  string `json:"why"`
}

// WhyRequest asks whether one end reaches another.
type WhyRequest struct {
	From  string `json:"from"`            // an endpoint, a container, an address, or host
	To    string `json:"to"`              // the same, or a name
	Port  uint16 `json:"port,omitempty"`  // 0: an ICMP echo
	Proto string `json:"proto,omitempty"` // tcp (the default) or udp
}

// Why answers it.
type Why struct {
	Works    bool      `json:"works"`
	Sentence string    `json:"sentence"`
	Hint     string    `json:"hint,omitempty"` // lines to type
	Steps    []WhyStep `json:"steps"`
}

// WhyStep is one step of the way, in order. Those that do not apply are left out.
type WhyStep struct {
	Step     string `json:"step"`
	Host     string `json:"host"`
	State    string `json:"state"` // ok, broken or skipped
	Evidence string `json:"evidence"`
}
