package ipam

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/weft-net/weft/discovery"
)

// adopt takes a block into hand that the pool holds for this host. Addresses in it may
// have been reserved before it was claimed, so those are read first. Others may
// use more than a wiped pool says: what they announce counts as lent until the
// next reading. The blocks are locked.
func (k *keeper) adopt(ctx context.Context, nw *network, b discovery.Block) error {
	reserved, err := k.cfg.Pool.Reserved(ctx, nw.id, b.Prefix)
	if err != nil {
		return fmt.Errorf("read reservations in %s: %w", b.Prefix, away(ctx, err))
	}
	s, ok := nw.spec().Covering(b.Prefix.Addr())
	if !ok || s.BlockOf(b.Prefix.Addr()) != b.Prefix {
		return fmt.Errorf("block %s does not fit network %s: %w", b.Prefix, nw.spec().Name, ErrOutside)
	}
	users, seen := k.usersOf(nw, b.Prefix, s, reserved)
	changes := []Change{putBlock(b)}
	var lent []*holding
	for a, host := range users {
		h := &holding{addr: a, state: stateLent, host: host, seq: reserved[a].Seq}
		lent = append(lent, h)
		changes = append(changes, putAddress(b.Network, a, h.record()))
	}
	if err := k.cfg.Disk.Commit(changes...); err != nil {
		return err
	}
	k.insert(nw, newBlock(b, s, time.Now()), lent)
	if seen {
		k.rereadSoon(nw, loanCheck) // the view may be late
	}
	for a, r := range reserved {
		if r.Host == k.cfg.Self {
			if err := k.returnStray(nw, a); err != nil {
				return err
			}
		}
	}
	return nil
}

// usersOf finds which other hosts use addresses of p: by their reservations, or,
// seen, by what they announce.
func (k *keeper) usersOf(nw *network, p netip.Prefix, s discovery.Subnet, reserved map[netip.Addr]discovery.Reservation) (users map[netip.Addr]discovery.HostID, seen bool) {
	users = map[netip.Addr]discovery.HostID{}
	for a, host := range announced(k.cfg.View(), nw.id, p) {
		if reserved[a].Host.IsZero() && host != k.cfg.Self && s.Assignable(a) {
			users[a], seen = host, true
		}
	}
	for a, r := range reserved {
		if r.Host != k.cfg.Self {
			users[a] = r.Host
		}
	}
	return users, seen
}

func (k *keeper) insert(nw *network, b *block, lent []*holding) {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	if nw.hand.insert(b, lent) {
		k.changes.Set()
		k.cfg.Log.Info("block claimed", "network", nw.spec().Name, "block", b.Prefix)
	}
}
