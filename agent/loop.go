package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pool"
)

// loop carries the cluster into this host, newest state first: whatever
// happened, one pass takes all of it.
func (s *session) loop(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		s.pass(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-s.directory.Changes():
		case <-s.leases.Changes():
		case <-tick.C: // a network may have lingered long enough
		}
	}
}

// pass plans the newest snapshot and applies it. The kernel comes before the
// names: a name that is answered has its FDB entry already.
func (s *session) pass(ctx context.Context) {
	waiters := s.takeWaiters()
	own := s.ownState()
	s.announceHeader(own)
	state, zone := plan(s.cfg, s.snapshot(), own)
	err := s.overlay.Set(ctx, state)
	s.names.Set(zone)
	s.mu.Lock()
	if err != nil && ctx.Err() == nil && (s.passErr == nil || s.passErr.Error() != err.Error()) {
		s.log.Warn("kernel not as wanted, will be retried", "err", err)
	}
	s.passErr, s.zone = err, zone
	s.carried = own.Carried
	s.mu.Unlock()
	for _, w := range waiters {
		w <- err
	}
}

// settle waits for a pass that began after this call: what was changed before
// it is in the kernel and in the DNS server when it returns.
func (s *session) settle(ctx context.Context) error {
	w := make(chan error, 1)
	s.mu.Lock()
	s.waiters = append(s.waiters, w)
	s.mu.Unlock()
	s.poke()
	select {
	case err := <-w:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ctx.Done():
		return errEnded
	}
}

// errEnded: this host left the cluster, or the agent stops, under a request.
var errEnded = errors.New("the agent stops or has left the cluster")

func (s *session) takeWaiters() []chan error {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.waiters
	s.waiters = nil
	return w
}

// poke asks for a pass; several at once are one.
func (s *session) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// snapshot joins the newest view of gossip with the newest networks.
func (s *session) snapshot() discovery.Snapshot {
	v := s.directory.View()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.complete = s.complete || v.Complete && s.read && s.allRead(v)
	return discovery.Snapshot{
		Self: v.Self, Members: v.Members, Networks: s.networks, Endpoints: v.Endpoints,
		Complete: s.complete && v.Complete,
	}
}

// patience is how long a registered host that nobody has heard of keeps this
// one from sweeping.
const patience = time.Minute

// allRead reports whether the state of every registered host is known, be it
// from the disk. Without it a host whose view.db was lost would take itself for
// alone and sweep the others' entries before it hears of them. mu is held.
func (s *session) allRead(v discovery.View) bool {
	if s.registered == nil {
		return false
	}
	if time.Since(s.started) > patience {
		return true
	}
	known := map[discovery.HostID]bool{}
	for _, m := range v.Members {
		known[m.ID] = m.Header.VTEP.IsValid()
	}
	for _, id := range s.registered {
		if !known[id] {
			return false
		}
	}
	return true
}

// learnHosts keeps the list of registered hosts.
func (s *session) learnHosts(ctx context.Context) error {
	for {
		wait := 30 * time.Second
		hosts, err := s.pool.Hosts(ctx)
		if err != nil {
			wait = time.Second
		} else {
			s.register(hosts)
			s.registerAgain(ctx, hosts)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// registerAgain corrects this host's record in the pool, which says where it was
// at its last start. Without a record the store was wiped, and somebody else was
// the first to write the cluster back: the rest of what is ours is missing too.
func (s *session) registerAgain(ctx context.Context, hosts []pool.Host) {
	if s.forgottenBy() != "" || s.isLeaving() {
		return
	}
	want := s.poolHost()
	found := false
	for _, h := range hosts {
		if h.ID == want.ID {
			found, want.Joined = true, h.Joined
			if h.VTEP == want.VTEP && h.Gossip == want.Gossip && h.Version == want.Version && h.Incarnation == want.Incarnation {
				return
			}
		}
	}
	if !found {
		s.mu.Lock()
		s.lost = true
		s.mu.Unlock()
		return
	}
	if err := s.pool.Register(ctx, want); err != nil {
		s.log.Warn("this host's record in the store is not up to date", "err", err)
	}
}

func (s *session) register(hosts []pool.Host) {
	ids := []discovery.HostID{}
	for _, h := range hosts {
		ids = append(ids, h.ID)
	}
	s.mu.Lock()
	s.registered = ids
	s.mu.Unlock()
	s.poke()
}

// ownState is what only this host knows.
func (s *session) ownState() Own {
	own := Own{Cluster: s.cluster.ID, Locals: s.journal.all(), Carried: map[discovery.NetworkID]bool{}}
	for _, l := range own.Locals {
		if !l.ofHost() {
			own.Carried[l.Endpoint.Network] = true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	own.Asking = s.asking()
	for id, at := range s.used {
		if time.Since(at) < linger {
			own.Carried[id] = true
		} else {
			delete(s.used, id)
		}
	}
	return own
}

// carry keeps a network's devices on this host for a while, with or without
// endpoints.
func (s *session) carry(id discovery.NetworkID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used[id] = time.Now()
}

// announceHeader tells the members which networks this host carries and which
// blocks it holds.
func (s *session) announceHeader(own Own) {
	blocks := s.leases.Blocks()
	s.mu.Lock()
	networks := s.networks
	s.mu.Unlock()
	var out []discovery.HeaderNetwork
	for _, n := range networks {
		i := slices.IndexFunc(blocks, func(h discovery.HeaderNetwork) bool { return h.ID == n.ID })
		if i < 0 && !own.Carried[n.ID] {
			continue
		}
		h := discovery.HeaderNetwork{VNI: n.VNI, ID: n.ID}
		if i >= 0 {
			h.Blocks = blocks[i].Blocks
		}
		out = append(out, h)
	}
	s.directory.SetHeader(func(h *discovery.Header) { h.Networks = out })
}

// deliver takes the pool's newest contents. An absent network is kept: only
// netgone says that one was deleted.
func (s *session) deliver(c pool.Contents) {
	var gone []discovery.HostID
	for id, by := range c.Gone {
		if id == s.host.ID {
			s.forget("agentctl leave --force by " + by.By)
		}
		gone = append(gone, id)
	}
	s.directory.Forget(gone)

	s.mu.Lock()
	next := slices.Clone(c.Networks)
	listed, absent := map[discovery.NetworkID]bool{}, map[discovery.NetworkID]time.Time{}
	for _, n := range c.Networks {
		listed[n.ID] = true
	}
	for _, n := range s.networks {
		if _, deleted := c.NetGone[n.ID]; deleted || listed[n.ID] {
			continue
		}
		next = append(next, n)
		// One that was never listed was made here a moment ago.
		if s.listed[n.ID] || !s.absent[n.ID].IsZero() {
			absent[n.ID] = cmp.Or(s.absent[n.ID], time.Now())
		}
	}
	s.absent = absent
	discovery.SortNetworks(next)
	s.listed = listed
	s.networks, s.read, s.deleted = next, true, c.NetGone
	s.lost = s.lost || c.Restored > s.restored
	s.restored = c.Restored
	s.mu.Unlock()

	if b, err := json.Marshal(next); err == nil {
		if err := s.view.save(viewNetwork, b); err != nil {
			s.log.Warn("networks not saved for the next start", "err", err)
		}
	}
	s.poke()
}

// findNetwork is network for a request: before a name is called unknown the store
// is asked, once, since another host may have made the network a moment ago.
func (s *session) findNetwork(ctx context.Context, nameOrID string) (discovery.Network, bool) {
	n, ok := s.network(nameOrID)
	if ok || s.pool.Healthy() != nil {
		return n, ok
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := s.readNetworks(ctx); err != nil {
		return n, false
	}
	return s.network(nameOrID)
}

// network finds a network by name, id or the start of an id of at least four
// digits.
func (s *session) network(nameOrID string) (discovery.Network, bool) {
	nameOrID = strings.ToLower(nameOrID)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.networks {
		if n.Name == nameOrID || n.ID.String() == nameOrID {
			return n, true
		}
	}
	var found []discovery.Network
	for _, n := range s.networks {
		if len(nameOrID) >= 4 && n.ID.String()[:min(len(nameOrID), 32)] == nameOrID {
			found = append(found, n)
		}
	}
	if len(found) != 1 {
		return discovery.Network{}, false
	}
	return found[0], true
}

func (s *session) networkList() []discovery.Network {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := slices.Clone(s.networks)
	slices.SortFunc(out, func(a, b discovery.Network) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
