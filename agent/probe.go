package agent

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/overlay"
)

// probeVNI is the members' own network: no endpoint, no address. What passes
// in it passes in every other one, since it takes the same tunnel.
const probeVNI = 1

// Frames of the probe network are a kind, a number and the sender's host id.
const (
	probeRequest = 1
	probeReply   = 2
	probeSize    = 1 + 8 + 16
)

// probeQuestion begins the body of a Call that asks a member whether a request
// of that number reached it. It is none of the address messages' versions.
const probeQuestion = 0x70

type probeNumber [8]byte

// Probe is a socket in the probe network of this host.
type Probe interface {
	Send(to overlay.MAC, payload []byte) error
	// Receive returns ctx's error when ctx ends.
	Receive(ctx context.Context, buf []byte) (n int, from overlay.MAC, err error)
	Close() error
}

// prober answers other members' probes and sends this host's.
type prober struct {
	self discovery.HostID

	mu      sync.Mutex
	socket  Probe
	waiting map[probeNumber]chan struct{}
	seen    []probeNumber // the last requests of others that reached us
}

// probeMAC is a member's address in the probe network.
func probeMAC(id discovery.HostID) overlay.MAC {
	sum := sha256.Sum256(append([]byte("probe"), id[:]...))
	mac := overlay.MAC{0x0a}
	copy(mac[1:], sum[:])
	return mac
}

// run receives until ctx ends. open fails as long as the device is not there.
func (p *prober) run(ctx context.Context, open func() (Probe, error)) error {
	for ctx.Err() == nil {
		socket, err := open()
		if err == nil {
			p.use(socket)
			err = p.receive(ctx, socket)
			p.use(nil)
			_ = socket.Close()
		}
		if err == nil {
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

func (p *prober) use(s Probe) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.socket = s
}

func (p *prober) receive(ctx context.Context, socket Probe) error {
	buf := make([]byte, 256)
	for {
		n, from, err := socket.Receive(ctx, buf)
		if err != nil {
			return err
		}
		if n < probeSize {
			continue
		}
		number := probeNumber(buf[1:9])
		switch buf[0] {
		case probeRequest:
			p.note(number)
			// A reply that is lost is asked for again.
			_ = socket.Send(from, p.frame(probeReply, number))
		case probeReply:
			p.wake(number)
		}
	}
}

func (p *prober) frame(kind byte, number probeNumber) []byte {
	return slices.Concat([]byte{kind}, number[:], p.self[:])
}

func (p *prober) note(number probeNumber) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, number)
	if len(p.seen) > 1024 {
		p.seen = slices.Clone(p.seen[512:])
	}
}

func (p *prober) wake(number probeNumber) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.waiting[number]; ok {
		close(c)
		delete(p.waiting, number)
	}
}

// serve answers another member's question whether its request reached us.
func (p *prober) serve(body []byte) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(body) == 1+len(probeNumber{}) && slices.Contains(p.seen, probeNumber(body[1:])) {
		return []byte{1}
	}
	return []byte{0}
}

// reach sends requests to a member until it answers or ctx ends.
func (p *prober) reach(ctx context.Context, id discovery.HostID) (probeNumber, error) {
	var number probeNumber
	_, _ = rand.Read(number[:])
	answered := make(chan struct{})
	p.mu.Lock()
	if p.waiting == nil {
		p.waiting = map[probeNumber]chan struct{}{}
	}
	p.waiting[number] = answered
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.waiting, number)
	}()
	for {
		p.mu.Lock()
		socket := p.socket
		p.mu.Unlock()
		if socket != nil {
			// What the kernel refuses now it may take after the next pass.
			_ = socket.Send(probeMAC(id), p.frame(probeRequest, number))
		}
		select {
		case <-answered:
			return number, nil
		case <-ctx.Done():
			return number, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// checkTunnel finds out whether encapsulated packets pass between this host and
// the other members, both ways. It fails when they pass with none of them; a
// single member that cannot be reached is only told.
func (s *session) checkTunnel(ctx context.Context, progress func(string)) error {
	progress(fmt.Sprintf("probing the tunnel, port %d/udp", s.cfg.Ports.Tunnel))
	var members []discovery.Member
	for _, m := range s.directory.View().Members {
		if m.ID != s.host.ID && m.Status == discovery.StatusAlive {
			members = append(members, m)
		}
	}
	var mu sync.Mutex
	var blocked []string
	var wg sync.WaitGroup
	for _, m := range members {
		wg.Go(func() {
			if why := s.blocked(ctx, m); why != "" {
				mu.Lock()
				defer mu.Unlock()
				blocked = append(blocked, why)
			}
		})
	}
	wg.Wait()
	slices.Sort(blocked)
	if len(blocked) > 0 && len(blocked) == len(members) {
		return api.Errorf(api.KindFailed, "%s", strings.Join(blocked, "; ")).
			WithHint("nft list ruleset # on both hosts: %d/udp must pass in both directions", s.cfg.Ports.Tunnel)
	}
	for _, why := range blocked {
		progress("warning: " + why)
		s.log.Warn("tunnel blocked", "why", why)
	}
	return nil
}

// blocked says in which direction the tunnel to a member does not work; empty
// when it does.
func (s *session) blocked(ctx context.Context, m discovery.Member) string {
	try, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	number, err := s.probes.reach(try, m.ID)
	if err == nil {
		return ""
	}
	ask, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	answer, err := s.directory.Call(ask, m.ID, append([]byte{probeQuestion}, number[:]...))
	port := s.cfg.Ports.Tunnel
	switch {
	case err != nil:
		return fmt.Sprintf("%d/udp is blocked between %s and %s", port, s.host.Name, m.Name)
	case slices.Equal(answer, []byte{1}):
		return fmt.Sprintf("%d/udp is blocked from %s to %s", port, m.Name, s.host.Name)
	}
	return fmt.Sprintf("%d/udp is blocked from %s to %s", port, s.host.Name, m.Name)
}

// serve answers other members' Calls: about probes, or about addresses.
func (s *session) serve(from discovery.HostID, body []byte) []byte {
	if len(body) > 0 && body[0] == probeQuestion {
		return s.probes.serve(body)
	}
	return s.leases.Serve(from, body)
}

// probeNetwork is the members' own network as the kernel side wants it.
func (p planner) probeNetwork() overlay.Network {
	n := overlay.Network{VNI: probeVNI, Name: "probe", Probe: true, GatewayMAC: probeMAC(p.snap.Self),
		MTU: max(int(p.members[p.snap.Self].Header.MTU)-overhead(p.cfg.Advertise), minMTU)}
	for _, m := range p.snap.Members {
		vtep := m.Header.VTEP
		if m.ID != p.snap.Self && vtep.IsValid() && vtep.Is4() == p.cfg.Advertise.Is4() && m.Header.Flags&discovery.FlagGone == 0 {
			n.Remotes = append(n.Remotes, overlay.Remote{MAC: probeMAC(m.ID), VTEP: vtep})
		}
	}
	slices.SortFunc(n.Remotes, func(a, b overlay.Remote) int { return slices.Compare(a.MAC[:], b.MAC[:]) })
	return n
}

// errNoHeaders: the members that gossip knows have not said yet where they
// take packets.
var errNoHeaders = errors.New("no member has sent its tunnel address yet")

// awaitHeaders waits until every alive member's tunnel address is known.
func (s *session) awaitHeaders(ctx context.Context) error {
	for {
		ready := true
		for _, m := range s.directory.View().Members {
			ready = ready && (m.Status != discovery.StatusAlive || m.Header.VTEP.IsValid())
		}
		if ready {
			return nil
		}
		select {
		case <-s.directory.Changes():
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", errNoHeaders, ctx.Err())
		}
	}
}
