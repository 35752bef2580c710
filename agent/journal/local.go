package journal

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/weft-net/weft/agent/plan"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/strict"
	"github.com/weft-net/weft/overlay"
)

// Local is what only this host needs to know of one of its own endpoints. It is
// written to the journal before the endpoint is announced, so that a restarted
// agent announces what really runs here.
type Local struct {
	Endpoint  discovery.Endpoint `json:"endpoint"`
	Container string             `json:"container,omitempty"` // the runtime's id of the container; empty for a bare namespace
	Docker    *DockerEndpoint    `json:"docker,omitempty"`    // of a container of Docker's
	Sandbox   string             `json:"sandbox,omitempty"`   // path of the network namespace; empty: the host itself, or Docker's business
	Cookie    uint64             `json:"cookie,omitempty"`    // the namespace's, SO_NETNS_COOKIE: a namespace made again under one path is another
	Boot      string             `json:"boot,omitempty"`      // of the machine when the cookie was read: another boot counts cookies anew
	Ifname    string             `json:"ifname,omitempty"`
	Addrs     []netip.Prefix     `json:"addrs"` // with the length of the subnet
	NoDefault bool               `json:"no_default,omitempty"`
	NoRoute   bool               `json:"no_route,omitempty"` // the user wants no default route through it, also when it could have it
	Labels    map[string]string  `json:"labels,omitempty"`
	Resolv    string             `json:"resolv,omitempty"` // name of the namespace whose resolv.conf we wrote
	Created   time.Time          `json:"created"`
	Ports     []overlay.Publish  `json:"ports,omitempty"` // of this host, that lead to the endpoint
	Rev       uint64             `json:"rev,omitempty"`   // the journal counts the writes of this entry
}

// DockerEndpoint is what Docker calls an endpoint. The agent may not see its
// sandbox, so Docker alone says whether it lives.
type DockerEndpoint struct {
	EndpointID string `json:"endpoint_id"`           // 64 hex digits
	NetworkID  string `json:"network_id"`            // of the Docker network, 64 hex digits
	SandboxKey string `json:"sandbox_key,omitempty"` // the same for all endpoints of a container; empty: it has not joined, or has left
}

// check refuses an entry with which nothing can be done: others rely on an address.
func (l Local) check() error {
	if l.Endpoint.ID.IsZero() || l.Endpoint.Network.IsZero() || len(l.Addrs) == 0 || len(l.Endpoint.Addrs()) == 0 {
		return fmt.Errorf("it has no id, network or address: %w", discovery.ErrMalformed)
	}
	for _, a := range l.Addrs {
		if !a.IsValid() || !slices.Contains(l.Endpoint.Addrs(), a.Addr()) {
			return fmt.Errorf("its addresses differ: %w", discovery.ErrMalformed)
		}
	}
	return nil
}

// OfHost reports whether the endpoint is this host itself, not something that
// runs on it.
func (l Local) OfHost() bool { return l.Endpoint.Runtime == discovery.RuntimeHost }

// sandboxKey is the same for all endpoints of one sandbox and for no others.
func (l Local) sandboxKey() string {
	switch {
	case l.Docker == nil:
		return strconv.FormatUint(l.Cookie, 16)
	case l.Docker.SandboxKey == "":
		return l.Docker.EndpointID
	}
	return l.Docker.SandboxKey
}

// LockKey is the key of the lock by which requests for the endpoint wait for each
// other.
func (l Local) LockKey() uint64 {
	if l.Docker != nil {
		return DockerLock(l.Docker.EndpointID)
	}
	return l.Cookie
}

// DockerLock is the lock of an endpoint of Docker's, by Docker's id.
func DockerLock(endpointID string) uint64 {
	b, err := hex.DecodeString(endpointID[:min(16, len(endpointID))])
	if err != nil || len(b) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// Announced returns the endpoint as other members are told of it.
func (l Local) Announced() discovery.Endpoint {
	e := l.Endpoint
	ports := make([]discovery.Port, len(l.Ports))
	for i, p := range l.Ports {
		ports[i] = discovery.Port{Proto: p.Proto, HostAddr: p.HostAddr, HostPort: p.HostPort, Port: p.Port}
	}
	e.Details = strict.Details(ports, l.Labels)
	return e
}

// Planned returns the endpoint in the form that package plan takes.
func (l Local) Planned() plan.Local {
	return plan.Local{Endpoint: l.Endpoint, Sandbox: l.sandboxKey(), Ports: l.Ports, NoDefault: l.NoDefault}
}

// OwnSockets reports whether the endpoint's runtime has a socket on each port that
// it publishes.
func (l Local) OwnSockets() bool { return l.Endpoint.Runtime == discovery.RuntimePodman }
