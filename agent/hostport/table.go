package hostport

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/overlay"
)

// Table is the ports of this host that lead to its endpoints, each held by a
// socket, so that no other program takes one.
type Table struct {
	ctx  context.Context
	mu   sync.Mutex
	held map[Port]holding
	lost map[Port]lostPort
}

// lostPort is published, but another program listens on it.
type lostPort struct {
	owner discovery.EndpointID
	why   string
}

// Port is one of this host's.
type Port struct {
	Proto  uint8      // IPPROTO_TCP or IPPROTO_UDP
	Addr   netip.Addr // of the host, IPv4; zero: every one
	Number uint16
}

func (p Port) String() string {
	return Spec{proto: p.Proto, addr: p.Addr, first: p.Number, last: p.Number}.String()
}

type holding struct {
	owner   discovery.EndpointID
	release func()
}

// New returns an empty table, whose sockets end with ctx.
func New(ctx context.Context) *Table {
	return &Table{ctx: ctx, held: map[Port]holding{}, lost: map[Port]lostPort{}}
}

func portOf(p overlay.Publish) Port { return Port{p.Proto, p.HostAddr, p.HostPort} }

// Request is what an endpoint wants to publish.
type Request struct {
	Owner discovery.EndpointID
	To    netip.Addr        // its own
	Want  []Spec            // these and no others
	Have  []overlay.Publish // what it has already: what fits is kept
	// OwnSockets: its runtime listens on what it publishes, once we have answered,
	// as podman does. It may have a port already: of a container that was taken off
	// a network and is put on it again.
	OwnSockets bool
}

// Reserve takes a port of the host for each that is wanted, or none at all. Its
// error is a *TakenError when somebody else has one.
func (h *Table) Reserve(r Request) (all []overlay.Publish, err error) {
	have := slices.Clone(r.Have)
	var fresh []overlay.Publish
	for _, w := range r.Want {
		if i := slices.IndexFunc(have, w.Met); i >= 0 {
			all = append(all, have[i])
			have = slices.Delete(have, i, i+1)
			continue
		}
		port, err := h.choose(r.Owner, w, r.OwnSockets)
		if err != nil {
			h.Release(r.Owner, fresh)
			return nil, err
		}
		p := overlay.Publish{Proto: w.proto, HostAddr: w.addr, HostPort: port, Addr: r.To, Port: w.port}
		all, fresh = append(all, p), append(fresh, p)
	}
	if r.OwnSockets {
		h.lend(r.Owner, all)
	}
	slices.SortFunc(all, overlay.Publish.Compare)
	return all, nil
}

// choose takes the first free port of a range, or any.
func (h *Table) choose(owner discovery.EndpointID, w Spec, ownSockets bool) (uint16, error) {
	var err error
	for port := int(w.first); port <= int(w.last); port++ {
		var got uint16
		if got, err = h.hold(owner, Port{w.proto, w.addr, uint16(port)}); err == nil {
			return got, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return 0, err
		}
		if ownSockets && h.takeLent(owner, Port{w.proto, w.addr, uint16(port)}) {
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
func (h *Table) hold(owner discovery.EndpointID, p Port) (got uint16, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.take(owner, p)
}

// take is hold for a caller that has mu.
func (h *Table) take(owner discovery.EndpointID, p Port) (got uint16, err error) {
	// The kernel cannot tell: a port may be an endpoint's without a socket of ours.
	if holder := h.holder(p); !holder.IsZero() && p.Number != 0 {
		return 0, &TakenError{Port: p, Endpoint: holder}
	}
	var release func()
	for range attempts {
		got, release, err = holdSocket(h.ctx, p)
		if err == nil && p.Number == 0 && !h.holder(Port{p.Proto, p.Addr, got}).IsZero() {
			release()
			err = syscall.EADDRINUSE
		}
		if err == nil || p.Number != 0 {
			break
		}
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return 0, &TakenError{Port: p}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return 0, api.Errorf(api.KindMisuse, "%s: no such address on this host", p).WithHint("ip -br addr")
	case err != nil:
		return 0, fmt.Errorf("%s: %w", p, err)
	}
	p.Number = got
	h.held[p] = holding{owner, release}
	return got, nil
}

// holder is the endpoint that has a port, or one that leaves no room for it.
func (h *Table) holder(p Port) (owner discovery.EndpointID) {
	for other, held := range h.held {
		if other.meets(p) {
			return held.owner
		}
	}
	for other, lost := range h.lost {
		if other.meets(p) {
			return lost.owner
		}
	}
	return owner
}

// meets reports whether two ports cannot have an endpoint each.
func (p Port) meets(other Port) bool {
	return other.Proto == p.Proto && other.Number == p.Number && (other.Addr == p.Addr || !other.Addr.IsValid() || !p.Addr.IsValid())
}

// TakenError says who has a port. It wraps syscall.EADDRINUSE.
type TakenError struct {
	Port     Port
	Endpoint discovery.EndpointID // zero: another program
}

func (e *TakenError) Error() string {
	if !e.Endpoint.IsZero() {
		return fmt.Sprintf("%s is taken by endpoint %s", e.Port, e.Endpoint)
	}
	if owner := program(protocols[e.Port.Proto], e.Port.Number); owner != "" {
		return fmt.Sprintf("%s is taken by %s", e.Port, owner)
	}
	return fmt.Sprintf("%s is taken", e.Port)
}

func (e *TakenError) Unwrap() error { return syscall.EADDRINUSE }

// Release gives an endpoint's ports back; those that it does not have are no error.
func (h *Table) Release(owner discovery.EndpointID, ports []overlay.Publish) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range ports {
		if held, ok := h.held[portOf(p)]; ok && held.owner == owner {
			held.release()
			delete(h.held, portOf(p))
		}
		if h.lost[portOf(p)].owner == owner {
			delete(h.lost, portOf(p))
		}
	}
}

// lend gives up the sockets of ports that the endpoint's runtime is about to
// hold by its own: podman listens on what it publishes, once we have answered.
func (h *Table) lend(owner discovery.EndpointID, ports []overlay.Publish) {
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
func (h *Table) takeLent(owner discovery.EndpointID, p Port) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.holder(p).IsZero() || !strings.HasPrefix(program(protocols[p.Proto], p.Number), "conmon ") {
		return false
	}
	h.held[p] = holding{owner, func() {}}
	return true
}

// Pass makes an endpoint the owner of ports that another has.
func (h *Table) Pass(from discovery.EndpointID, ports []overlay.Publish, to discovery.EndpointID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range ports {
		if held, ok := h.held[portOf(p)]; ok && held.owner == from {
			held.owner = to
			h.held[portOf(p)] = held
		}
		if l, ok := h.lost[portOf(p)]; ok && l.owner == from {
			l.owner = to
			h.lost[portOf(p)] = l
		}
	}
}

// Published are the ports that an endpoint had when an agent ended.
type Published struct {
	Owner      discovery.EndpointID
	Ports      []overlay.Publish
	OwnSockets bool // its runtime holds them
}

// Reclaim takes those ports again. They stay published when another program was
// faster: it is that one which nobody reaches, and Problems names it.
func (h *Table) Reclaim(all []Published) {
	h.mu.Lock()
	for _, l := range all {
		for _, p := range l.Ports {
			if l.OwnSockets {
				h.held[portOf(p)] = holding{l.Owner, func() {}}
			} else {
				h.lost[portOf(p)] = lostPort{owner: l.Owner}
			}
		}
	}
	h.mu.Unlock()
	h.Retry()
}

// Retry takes those ports that other programs have let go.
func (h *Table) Retry() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for p, l := range maps.Clone(h.lost) {
		delete(h.lost, p)
		if _, err := h.take(l.owner, p); err != nil {
			l.why = err.Error()
			h.lost[p] = l
		}
	}
}

// Problems are the published ports that we do not hold.
func (h *Table) Problems() (held int, lost []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range h.lost {
		lost = append(lost, l.why)
	}
	slices.Sort(lost)
	return len(h.held), lost
}

// Close lets every port go. What is published stays so.
func (h *Table) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, held := range h.held {
		held.release()
	}
	clear(h.held)
}
