package pool

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/strict"
)

// Reserve records one address for a host: one that no block covers when lent
// is nil, else one that the holder of the block lent has marked as lent. Again
// for the same host it returns the same seq. A *discovery.TakenError names the
// other host; discovery.ErrCovered: the covering block is not, or no longer, what
// lent says.
func (r *BlockRecords) Reserve(ctx context.Context, n discovery.Network, a netip.Addr, host discovery.HostID, lent *discovery.Block) (seq uint64, err error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	if seq, err = r.reserve(ctx, n, a, host, lent); err != nil {
		return 0, fmt.Errorf("reserve %s in %s: %w", a, n.Name, err)
	}
	return seq, nil
}

func (r *BlockRecords) reserve(ctx context.Context, n discovery.Network, a netip.Addr, host discovery.HostID, lent *discovery.Block) (uint64, error) {
	s, ok := n.Covering(a)
	if !ok || !s.Assignable(a) {
		return 0, fmt.Errorf("not an address for an endpoint: %w", ErrInvalid)
	}
	cover := blockKey(n.ID, s.BlockOf(a))
	lender := absent(cover)
	if lent != nil {
		lender = unchanged(cover, lent.Index)
	}
	value := ipValue{Host: host, Seq: 1}
	for {
		guards, err := r.guards(ctx, n, host)
		if err != nil {
			return 0, err
		}
		out, err := r.store.commit(ctx, append(guards, lender, cas(ipKey(n.ID, a), 0, encode(value)))...)
		switch {
		case err != nil:
			return 0, err
		case out.ok():
			return value.Seq, nil
		case out.failed[3]:
			return r.reservedFor(ctx, n.ID, a, host)
		case out.failed[2]:
			return 0, discovery.ErrCovered
		}
	}
}

// reservedFor is the seq of an address that is recorded already.
func (r *BlockRecords) reservedFor(ctx context.Context, id discovery.NetworkID, a netip.Addr, host discovery.HostID) (uint64, error) {
	v, err := r.reservation(ctx, id, a)
	if err != nil {
		return 0, err
	}
	if v.Host != host {
		return 0, &discovery.TakenError{Addr: a, Host: v.Host}
	}
	return v.Seq, nil
}

// reservation reads who an address is recorded for; index 0: for nobody.
func (r *BlockRecords) reservation(ctx context.Context, id discovery.NetworkID, a netip.Addr) (v reserved, err error) {
	kv, err := r.store.lookup(ctx, ipKey(id, a))
	if err != nil || kv == nil {
		return v, err
	}
	return readOne(r.store, kv, parseReservation)
}

// Unreserve gives an address back. It is nil when it is not recorded for the
// host.
func (r *BlockRecords) Unreserve(ctx context.Context, id discovery.NetworkID, a netip.Addr, host discovery.HostID) error {
	ctx, cancel := bound(ctx)
	defer cancel()
	for {
		v, err := r.reservation(ctx, id, a)
		if _, refused := errors.AsType[strict.Refused](err); refused {
			return nil // it is no reservation, and nobody's
		}
		if err != nil {
			return fmt.Errorf("give back %s: %w", a, err)
		}
		if v.index == 0 || v.Host != host {
			return nil
		}
		out, err := r.store.commit(ctx, drop(ipKey(id, a), v.index))
		if err != nil {
			return fmt.Errorf("give back %s: %w", a, err)
		}
		if out.ok() {
			return nil
		}
	}
}

// Reserved lists the recorded addresses of a network within a block. A new
// holder of the block reads it before it hands out the first address.
func (r *BlockRecords) Reserved(ctx context.Context, id discovery.NetworkID, within netip.Prefix) (map[netip.Addr]discovery.Reservation, error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	folder := reservedOf(id) + commonHex(within)
	pairs, err := r.store.list(ctx, folder)
	if err != nil {
		return nil, fmt.Errorf("list addresses reserved in %s: %w", within, err)
	}
	out := map[netip.Addr]discovery.Reservation{}
	for _, v := range readAll(r.store, folder, pairs, parseReservation) {
		if within.Contains(v.addr) {
			out[v.addr] = v.Reservation
		}
	}
	return out, nil
}

// commonHex is the hex digits that all addresses of the prefix begin with.
func commonHex(p netip.Prefix) string {
	return addrHex(p.Masked().Addr())[:p.Bits()/4]
}
