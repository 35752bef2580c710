package gossip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
	"github.com/weft-net/weft/discovery/table"
)

var (
	// ErrWrongKey means that the host at the address holds another gossip key.
	ErrWrongKey = errors.New("the gossip key is another one")
	// ErrOtherCluster means that what answers at the address does not speak
	// for this cluster.
	ErrOtherCluster = errors.New("the host belongs to another cluster, or is no member of any")
	// errFormat means that the member speaks no wire format of ours.
	errFormat = errors.New("no common wire format")
	// ErrUnreachable is what every UnreachableError wraps.
	ErrUnreachable = errors.New("unreachable")
)

// UnreachableError names the port and protocol that packets do not pass.
type UnreachableError struct {
	Addr     netip.AddrPort // that is not reached
	Protocol string         // "tcp" or "udp"
	From     string         // who tried; empty: this host
	Err      error          // what the kernel said, or nil
}

func (e *UnreachableError) Error() string {
	s := fmt.Sprintf("gossip port %d/%s of %s is unreachable", e.Addr.Port(), e.Protocol, e.Addr.Addr())
	if e.From != "" {
		s += " from " + e.From
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns ErrUnreachable and the kernel's error.
func (e *UnreachableError) Unwrap() []error { return []error{ErrUnreachable, e.Err} }

var errNotJoined = errors.New("no member took this host in")

// probedWithin is how long a small cluster may take to probe a new member.
const probedWithin = 5 * time.Second

// joinWait is how long a member has to take a new host in.
const joinWait = 10 * time.Second

// Join enters the cluster through one of the addresses, and returns the
// members when one of them has shown that it holds this host's state: only
// then is the host known to the others. Run has to be running. The addresses
// are tried again later as well, as long as no member is at them.
func (g *Gossip) Join(ctx context.Context, addrs []netip.AddrPort, progress func(string)) ([]discovery.Member, error) {
	if progress == nil {
		progress = func(string) {}
	}
	j := joiner{self: g.Addr(), replica: g.replica, sender: g.sender, contacts: g.contacts, heard: g.paths.heardOf, progress: progress}
	g.setJoining(true)
	defer g.setJoining(false)
	errs := []error{errNotJoined}
	for _, at := range addrs {
		err := j.joinAt(ctx, at)
		if err == nil {
			g.rejoiner.remember(addrs)
			return g.View().Members, nil
		}
		errs = append(errs, fmt.Errorf("join %s: %w", at, err))
	}
	return nil, errors.Join(errs...)
}

func (g *Gossip) setJoining(joining bool) {
	g.replica.update(func(t *table.Table) { t.SetJoining(joining) })
}

// joiner is one call of Join.
type joiner struct {
	self     netip.AddrPort
	replica  *replica
	sender   *sender
	contacts *contacts
	heard    func(netip.Addr) bool // a datagram came from there
	progress func(string)
}

// joinAt goes through what can fail one by one, so that the error says which.
func (j *joiner) joinAt(ctx context.Context, at netip.AddrPort) error {
	j.progress(fmt.Sprintf("connecting to %s over tcp", at))
	if err := j.contacts.probeTCP(at, dialTimeout); err != nil {
		return &UnreachableError{Addr: at, Protocol: "tcp", Err: err}
	}
	j.progress("exchanging the list of members")
	if err := j.contacts.meet(candidate{at: at}); err != nil {
		return joinError(at, err)
	}
	peer, err := j.memberAt(ctx, at)
	if err != nil {
		return err
	}
	j.progress(fmt.Sprintf("probing %s over udp", at))
	if !j.answersOneOf(ctx, peer, at, 4) {
		return j.lost(ctx, at)
	}
	j.progress("waiting for the member to take this host in")
	return j.takenIn(ctx, peer, at)
}

// joinError finds the reason in the error of a failed exchange; memberlist has
// none but its text. A member with another key says that it cannot decrypt,
// under its own key. One with another label closes the connection.
func joinError(at netip.AddrPort, err error) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "could decrypt"):
		return ErrWrongKey
	case strings.Contains(text, "not encrypted"), strings.Contains(text, io.EOF.Error()),
		strings.Contains(text, syscall.ECONNRESET.Error()), strings.Contains(text, "invalid msgType"):
		return ErrOtherCluster
	case strings.Contains(text, "timeout"):
		return &UnreachableError{Addr: at, Protocol: "tcp", Err: err}
	}
	return err
}

// memberAt waits for the member that the exchange was made with.
func (j *joiner) memberAt(ctx context.Context, at netip.AddrPort) (discovery.HostID, error) {
	ctx, cancel := context.WithTimeout(ctx, joinWait)
	defer cancel()
	for {
		id, n, ok := j.sender.nodeWhere(func(n memberlist.Node) bool { return addrPort(n) == at })
		if ok {
			if m, err := parseMeta(n.Meta); err == nil && !m.speaks() {
				return id, fmt.Errorf("%w: this host %d to %d, the member %d to %d", errFormat,
					table.FormatMin, table.FormatMax, m.formatMin, m.formatMax)
			}
			return id, nil
		}
		if !pace.Sleep(ctx, 20*time.Millisecond) {
			return discovery.HostID{}, fmt.Errorf("%w: it does not list itself among its members", ErrOtherCluster)
		}
	}
}

func (j *joiner) answersOneOf(ctx context.Context, id discovery.HostID, at netip.AddrPort, tries int) bool {
	for range tries {
		if j.contacts.answers(id, at) {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
	}
	return false
}

// lost says on which way datagrams are lost. The member has this host in its list by
// now and probes it: when that arrives, what this host sends does not.
func (j *joiner) lost(ctx context.Context, at netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, probedWithin)
	defer cancel()
	for !j.heard(at.Addr()) {
		if !pace.Sleep(ctx, 20*time.Millisecond) {
			return &UnreachableError{Addr: j.self, Protocol: "udp", From: at.Addr().String()}
		}
	}
	return &UnreachableError{Addr: at, Protocol: "udp", From: j.self.Addr().String()}
}

// takenIn asks for the member's digest until it holds our state.
func (j *joiner) takenIn(ctx context.Context, peer discovery.HostID, at netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, joinWait)
	defer cancel()
	for n := 0; ; n++ {
		switch {
		case j.replica.silent():
			return errForgotten
		case j.replica.heldBy(peer):
			return nil
		}
		if n%20 == 19 {
			j.replica.step(func(time.Time) { j.replica.x.Compare(peer) })
		}
		if !pace.Sleep(ctx, 10*time.Millisecond) {
			return &UnreachableError{Addr: j.self, Protocol: "tcp", From: at.Addr().String(), Err: ctx.Err()}
		}
	}
}
