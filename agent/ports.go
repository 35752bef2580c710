package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/overlay"
)

// hostPorts are the ports of this host that lead to its endpoints, each held by
// a socket.
type hostPorts struct {
	ctx  context.Context
	mu   sync.Mutex
	held map[hostPort]holding
	lost map[hostPort]lostPort
}

// lostPort is published, but another program listens on it.
type lostPort struct {
	owner discovery.EndpointID
	why   string
}

type hostPort struct {
	proto uint8
	addr  netip.Addr
	port  uint16
}

func (p hostPort) String() string {
	return portSpec{proto: p.proto, addr: p.addr, first: p.port, last: p.port}.String()
}

type holding struct {
	owner   discovery.EndpointID
	release func()
}

func newHostPorts(ctx context.Context) *hostPorts {
	return &hostPorts{ctx: ctx, held: map[hostPort]holding{}, lost: map[hostPort]lostPort{}}
}

func portOf(p overlay.Publish) hostPort { return hostPort{p.Proto, p.HostAddr, p.HostPort} }

// reserve takes a port of the host for each spec, or none at all. Of what the
// endpoint has already it keeps what fits.
//
// A runtime with sockets of its own may have one on a port already: of a container
// that was taken off a network and is put on it again.
func (h *hostPorts) reserve(owner discovery.EndpointID, to netip.Addr, want []portSpec, have []overlay.Publish, ownSockets bool) (all []overlay.Publish, err error) {
	have = slices.Clone(have)
	var fresh []overlay.Publish
	for _, w := range want {
		if i := slices.IndexFunc(have, w.met); i >= 0 {
			all = append(all, have[i])
			have = slices.Delete(have, i, i+1)
			continue
		}
		port, err := h.choose(owner, w, ownSockets)
		if err != nil {
			h.release(fresh)
			return nil, err
		}
		p := overlay.Publish{Proto: w.proto, HostAddr: w.addr, HostPort: port, Addr: to, Port: w.port}
		all, fresh = append(all, p), append(fresh, p)
	}
	slices.SortFunc(all, overlay.Publish.Compare)
	return all, nil
}

// met reports whether a published port is one that the spec asks for.
func (p portSpec) met(by overlay.Publish) bool {
	return by.Proto == p.proto && by.HostAddr == p.addr && by.Port == p.port &&
		(p.first == 0 || p.first <= by.HostPort && by.HostPort <= p.last)
}

// choose takes the first free port of a range, or any.
func (h *hostPorts) choose(owner discovery.EndpointID, w portSpec, ownSockets bool) (uint16, error) {
	var err error
	for port := int(w.first); port <= int(w.last); port++ {
		var got uint16
		if got, err = h.hold(owner, hostPort{w.proto, w.addr, uint16(port)}); err == nil {
			return got, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return 0, err
		}
		if ownSockets && h.takeLent(owner, hostPort{w.proto, w.addr, uint16(port)}) {
			return uint16(port), nil
		}
	}
	if w.first != w.last {
		return 0, api.Errorf(api.KindConflict, "%s: all are taken", w).WithHint("ss -lntup")
	}
	return 0, err
}

// attempts at a free port: the one that the kernel chooses for IPv4 may be taken
// for IPv6.
const attempts = 8

// hold takes one port. The error is syscall.EADDRINUSE when somebody else has
// it.
func (h *hostPorts) hold(owner discovery.EndpointID, p hostPort) (got uint16, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.take(owner, p)
}

// take is hold for a caller that has mu.
func (h *hostPorts) take(owner discovery.EndpointID, p hostPort) (got uint16, err error) {
	var release func()
	for range attempts {
		got, release, err = holdPort(h.ctx, p.proto, p.addr, p.port)
		if err == nil || p.port != 0 {
			break
		}
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return 0, &portTakenError{port: p, endpoint: h.holder(p)}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return 0, api.Errorf(api.KindMisuse, "%s: no such address on this host", p).WithHint("ip -br addr")
	case err != nil:
		return 0, fmt.Errorf("%s: %w", p, err)
	}
	p.port = got
	h.held[p] = holding{owner, release}
	return got, nil
}

// holder is the endpoint that has a port, or one that leaves no room for it.
func (h *hostPorts) holder(p hostPort) (owner discovery.EndpointID) {
	for other, held := range h.held {
		if other.proto == p.proto && other.port == p.port && (other.addr == p.addr || !other.addr.IsValid() || !p.addr.IsValid()) {
			return held.owner
		}
	}
	return owner
}

// portTakenError says who has a port.
type portTakenError struct {
	port     hostPort
	endpoint discovery.EndpointID // zero: another program
}

func (e *portTakenError) Error() string {
	if !e.endpoint.IsZero() {
		return fmt.Sprintf("%s is taken by endpoint %s", e.port, e.endpoint)
	}
	if owner := portOwner(protocols[e.port.proto], e.port.port); owner != "" {
		return fmt.Sprintf("%s is taken by %s", e.port, owner)
	}
	return fmt.Sprintf("%s is taken", e.port)
}

func (e *portTakenError) Unwrap() error { return syscall.EADDRINUSE }

// release gives ports back; those that are not held are no error.
func (h *hostPorts) release(ports []overlay.Publish) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range ports {
		if held, ok := h.held[portOf(p)]; ok {
			held.release()
		}
		delete(h.held, portOf(p))
		delete(h.lost, portOf(p))
	}
}

// lend gives up the sockets of ports that the endpoint's runtime is about to
// hold by its own: podman listens on what it publishes, once we have answered.
func (h *hostPorts) lend(owner discovery.EndpointID, ports []overlay.Publish) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range ports {
		if held, ok := h.held[portOf(p)]; ok {
			held.release()
		}
		h.held[portOf(p)] = holding{owner, func() {}}
	}
}

// takeLent takes a port on which podman's watcher of containers listens, and that
// no endpoint has.
func (h *hostPorts) takeLent(owner discovery.EndpointID, p hostPort) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.holder(p).IsZero() || !strings.HasPrefix(portOwner(protocols[p.proto], p.port), "conmon ") {
		return false
	}
	h.held[p] = holding{owner, func() {}}
	return true
}

// pass makes an endpoint the owner of ports that another had.
func (h *hostPorts) pass(ports []overlay.Publish, to discovery.EndpointID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range ports {
		if held, ok := h.held[portOf(p)]; ok {
			held.owner = to
			h.held[portOf(p)] = held
		}
		if l, ok := h.lost[portOf(p)]; ok {
			l.owner = to
			h.lost[portOf(p)] = l
		}
	}
}

// reclaim takes the ports again that endpoints had when an agent ended. They
// stay published when another program was faster: it is that one which nobody
// reaches, and status names it.
func (h *hostPorts) reclaim(locals []Local) {
	h.mu.Lock()
	for _, l := range locals {
		if l.holdsOwnPorts() {
			continue
		}
		for _, p := range l.Ports {
			h.lost[portOf(p)] = lostPort{owner: l.Endpoint.ID}
		}
	}
	h.mu.Unlock()
	for _, l := range locals {
		if l.holdsOwnPorts() {
			h.lend(l.Endpoint.ID, l.Ports)
		}
	}
	h.retry()
}

// retry takes those ports that other programs have let go.
func (h *hostPorts) retry() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for p, l := range h.lost {
		if _, err := h.take(l.owner, p); err != nil {
			l.why = err.Error()
			h.lost[p] = l
			continue
		}
		delete(h.lost, p)
	}
}

// problems are the published ports that we do not hold.
func (h *hostPorts) problems() (held int, lost []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range h.lost {
		lost = append(lost, l.why)
	}
	slices.Sort(lost)
	return len(h.held), lost
}

func (h *hostPorts) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, held := range h.held {
		held.release()
	}
	clear(h.held)
}
